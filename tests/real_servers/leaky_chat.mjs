// A chat route of the AI SDK with a leak that is common in real ones: each request adds a listener to an emitter that lives
// for ever, and the listener's closure holds the request's own data. Beside it the shipped probe.
//   node [--expose-gc] leaky_chat.mjs NODE_FOLDER HANDLERS LEAK
// LEAK: `listener` (the request's history is held for ever) or `none` (the listener goes when the response closes). An
// answer has ?words=N words (40), one each ?gap_ms=N (25), its history is ?kb=N KB (32). The first line of output is the
// port.
import { EventEmitter } from 'node:events';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [folder, handlers, leak] = process.argv.slice(2);
const find = createRequire(path.join(path.resolve(folder), 'package.json'));
const load = (name) => import(pathToFileURL(find.resolve(name)).href);
const { streamText, convertToModelMessages } = await load('ai');
const { MockLanguageModelV3 } = await load('ai/test');
const { probe } = await import(pathToFileURL(path.resolve(handlers, 'express.mjs')).href);

const settings = new EventEmitter().setMaxListeners(0);
const usage = { inputTokens: { total: 9 }, outputTokens: { total: 0 } };

function model(words, gap) {
  return new MockLanguageModelV3({
    doStream: async () => {
      async function* speak() {
        yield { type: 'stream-start', warnings: [] };
        yield { type: 'text-start', id: 't' };
        for (let i = 0; i < words; i += 1) {
          await sleep(i ? gap : 150);
          yield { type: 'text-delta', id: 't', delta: `word${i} ` };
        }
        yield { type: 'text-end', id: 't' };
        yield { type: 'finish', finishReason: { unified: 'stop', raw: 'stop' }, usage };
      }
      return { stream: ReadableStream.from(speak()) };
    },
  });
}

async function answer(request, response) {
  const asked = new URL(request.url, 'http://local').searchParams;
  const { messages } = JSON.parse(await text(request));
  const history = { messages, context: new Array(125 * Number(asked.get('kb') ?? 32)).fill(0).map((_, i) => i + 0.5) };
  const onChange = () => history.context.length;
  settings.on('change', onChange);
  if (leak !== 'listener') response.on('close', () => settings.off('change', onChange));
  streamText({
    model: model(Number(asked.get('words') ?? 40), Number(asked.get('gap_ms') ?? 25)),
    messages: await convertToModelMessages(messages),
    maxRetries: 0,
    onError: () => {},
  }).pipeUIMessageStreamToResponse(response);
}

const server = http.createServer((request, response) => {
  if (request.url.startsWith('/api/probe')) return probe(request, response);
  answer(request, response).catch((error) => response.destroy(error));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
