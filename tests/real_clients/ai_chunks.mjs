// Run by Node beside the AI SDK: the SDK's own reader and schema look at streams of the simulator.
//   node ai_chunks.mjs NODE_FOLDER [PACKAGE] < jobs.json      PACKAGE: ai, or another version of it by its name there
// Standard input: a JSON list of {url, headers}. Standard output: a JSON list, in the same order, of {chunks, bad, text,
// reasoning, tools, finish, error}: how many events there were, which of them `uiMessageChunkSchema` refuses, and the
// message that `readUIMessageStream` makes of them.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';
import { text } from 'node:stream/consumers';

const folder = path.resolve(process.argv[2]);
const find = createRequire(path.join(folder, 'package.json'));
const ai = find.resolve(process.argv[3] ?? 'ai');
const { readUIMessageStream, uiMessageChunkSchema } = await import(pathToFileURL(ai).href);
const utils = createRequire(ai).resolve('@ai-sdk/provider-utils');
const { parseJsonEventStream } = await import(pathToFileURL(utils).href);

const answers = [];
for (const { url, headers } of JSON.parse(await text(process.stdin))) {
  const told = { chunks: 0, bad: [], text: '', reasoning: '', tools: [], finish: null, error: null };
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ id: 'chat', messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'hi' }] }] }),
  });
  const good = new TransformStream({
    transform(part, out) {
      told.chunks += 1;
      if (!part.success) return told.bad.push(String(part.error));
      if (part.value.type === 'finish') told.finish = part.value.finishReason;
      out.enqueue(part.value);
    },
  });
  const stream = parseJsonEventStream({ stream: response.body, schema: uiMessageChunkSchema }).pipeThrough(good);
  try {
    let message;
    for await (const next of readUIMessageStream({ stream, terminateOnError: true, onError: (e) => (told.error = e.message) }))
      message = next;
    for (const part of message?.parts ?? []) {
      if (part.type === 'text') told.text += part.text;
      if (part.type === 'reasoning') told.reasoning += part.text;
      if (part.type.startsWith('tool-')) told.tools.push([part.type.slice(5), part.state, part.input, part.output ?? null]);
    }
  } catch (e) {
    told.error = e.message;
  }
  answers.push(told);
}
process.stdout.write(JSON.stringify(answers));
