// Run by Node beside the AI SDK: what streamText sends to the browser when its provider's stream just ends.
//   node ai_cut.mjs NODE_FOLDER PACKAGE...
// Standard output: JSON {package: the body of its UI message stream response}.
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, ...packages] = process.argv.slice(2);
const find = createRequire(path.join(path.resolve(folder), 'package.json'));
const load = (name) => import(pathToFileURL(find.resolve(name)).href);
const said = [
  { type: 'stream-start', warnings: [] },
  { type: 'text-start', id: 't' },
  { type: 'text-delta', id: 't', delta: 'half an ' },
];

const bodies = {};
for (const name of packages) {
  const { streamText } = await load(name);
  const mocks = await load(`${name}/test`);
  const newest = Object.keys(mocks).filter((key) => key.startsWith('MockLanguageModelV')).sort().at(-1);
  const model = new mocks[newest]({ doStream: async () => ({ stream: ReadableStream.from(said) }) });
  const result = streamText({ model, prompt: 'hi', maxRetries: 0, onError: () => {} });
  bodies[name] = await result.toUIMessageStreamResponse().text();
}
process.stdout.write(JSON.stringify(bodies));
