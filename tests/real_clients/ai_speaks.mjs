// Run by Node beside the AI SDK: what useChat's transport sends for a first message, and what streamText sends back when
// its provider's stream just ends.
//   node ai_speaks.mjs NODE_FOLDER PACKAGE...
// Standard output: JSON {package: {sent: {url, headers, body}, cut: the body of its UI message stream response}}.
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, ...packages] = process.argv.slice(2);
const find = createRequire(path.join(path.resolve(folder), 'package.json'));
const load = (name) => import(pathToFileURL(find.resolve(name)).href);

async function sent({ DefaultChatTransport }) {
  let request;
  const fetch = async (url, { headers, body }) => {
    request = { url, headers: Object.fromEntries(new Headers(headers)), body: JSON.parse(body) };
    return new Response('data: [DONE]\n\n');
  };
  const messages = [{ id: 'message-1', role: 'user', parts: [{ type: 'text', text: 'Say "hi"\nπ' }] }];
  const asked = { chatId: 'chat-1', messages, trigger: 'submit-message', messageId: undefined, abortSignal: undefined };
  await new DefaultChatTransport({ fetch, body: { own: 1 } }).sendMessages(asked);
  return request;
}

async function cut({ streamText }, mocks) {
  const newest = Object.keys(mocks).filter((key) => key.startsWith('MockLanguageModelV')).sort().at(-1);
  const said = [
    { type: 'stream-start', warnings: [] },
    { type: 'text-start', id: 't' },
    { type: 'text-delta', id: 't', delta: 'half an ' },
  ];
  const model = new mocks[newest]({ doStream: async () => ({ stream: ReadableStream.from(said) }) });
  const result = streamText({ model, prompt: 'hi', maxRetries: 0, onError: () => {} });
  return result.toUIMessageStreamResponse().text();
}

const spoken = {};
for (const name of packages) {
  const ai = await load(name);
  spoken[name] = { sent: await sent(ai), cut: await cut(ai, await load(`${name}/test`)) };
}
process.stdout.write(JSON.stringify(spoken));
