// A real model behind OpenAI's chat completions, as small as it goes: llama.cpp by node-llama-cpp, one request at a time.
//   node llama_server.mjs NODE_FOLDER LOG MODEL.gguf
// The log is that of ai_server.mjs; `parts` are the engine's pieces of text as it gave them. The first line of output is
// the port, printed when the model is loaded.
import { appendFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';

const [folder, log, file] = process.argv.slice(2);
const find = createRequire(path.join(path.resolve(folder), 'package.json'));
const { getLlama, LlamaChatSession } = await import(pathToFileURL(find.resolve('node-llama-cpp')).href);

const now = () => Number(process.hrtime.bigint());
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, maxThreads: 1, logLevel: 'disabled' });
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 1024, threads: 1 });
let turn = Promise.resolve();

async function answer(request, response) {
  const received = now();
  const { messages, max_tokens } = JSON.parse(await text(request));
  const [parts, writes] = [[], []];
  const send = (value) => {
    const data = `data: ${value === null ? '[DONE]' : JSON.stringify(value)}\n\n`;
    const before = now();
    response.write(data);
    writes.push([before, now(), data]);
  };
  const chunk = (delta, finish_reason = null) =>
    send({ object: 'chat.completion.chunk', model: 'smollm2', choices: [{ index: 0, delta, finish_reason }] });
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  chunk({ role: 'assistant', content: '' });
  const session = new LlamaChatSession({ contextSequence: context.getSequence(), autoDisposeSequence: true });
  let output = 0;
  const { stopReason } = await session.promptWithMeta(messages.at(-1).content, {
    maxTokens: max_tokens,
    temperature: 0,
    onResponseChunk({ text, tokens }) {
      output += tokens.length;
      parts.push(['text', now()]);
      if (text) chunk({ content: text });
    },
  });
  session.dispose();
  chunk({}, stopReason === 'maxTokens' ? 'length' : 'stop');
  const usage = { prompt_tokens: model.tokenize(messages.at(-1).content).length, completion_tokens: output };
  send({ object: 'chat.completion.chunk', choices: [], usage });
  send(null);
  response.end();
  const id = (request.headers.traceparent ?? '').split('-')[1];
  appendFileSync(log, JSON.stringify({ id, mode: 'llama', received, parts, writes, closed: now() }) + '\n');
}

const server = http.createServer((request, response) => {
  turn = turn.then(() => answer(request, response)).catch((error) => response.destroy(error));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
