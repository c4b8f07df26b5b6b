// The shipped Node handlers in the servers they are made for, with memory that grows when it is asked to.
//   node --expose-gc probe_server.mjs NODE_FOLDER HANDLERS KIND
// KIND: express (the npm package), http (node:http with the Express handler), route (the Next.js route handler, called
// with the web's Request and Response as Next.js calls it). POST /leak?mb=N keeps N MB for ever, POST /garbage?mb=N does
// not. The first line of output is the port.
import { createRequire } from 'node:module';
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, handlers, kind] = process.argv.slice(2);
const find = createRequire(path.join(path.resolve(folder), 'package.json'));
const handler = (name) => import(pathToFileURL(path.resolve(handlers, name)).href);
const kept = [];

function grow(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://x');
  const many = Array.from({ length: Number(searchParams.get('mb')) * 8 }, (_, i) => new Array(16_384).fill(i + 0.5));
  if (pathname === '/leak') kept.push(many);
  response.writeHead(204).end();
}

let server;
if (kind === 'express') {
  const { default: express } = await import(pathToFileURL(find.resolve('express')).href);
  const { probe } = await handler('express.mjs');
  const app = express();
  app.get('/api/probe', probe);
  app.post(['/leak', '/garbage'], grow);
  server = http.createServer(app);
} else if (kind === 'http') {
  const { probe } = await handler('express.mjs');
  server = http.createServer((request, response) =>
    request.url.startsWith('/api/probe') ? probe(request, response) : grow(request, response));
} else {
  const { GET } = await handler('next-route.mjs');
  server = http.createServer(async (request, response) => {
    if (!request.url.startsWith('/api/probe')) return grow(request, response);
    const answer = await GET(new Request(`http://${request.headers.host}${request.url}`, { headers: request.headers }));
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
  });
}
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
