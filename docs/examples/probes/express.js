// What this process takes, as JSON for streamgauge. Express: app.get('/api/probe', probe); node:http: call it for that path.
// Set PROBE_TOKEN; without it nobody gets in. Start node with --expose-gc to let garbage be collected before a snapshot.
import { createHash, timingSafeEqual } from 'node:crypto';
import os from 'node:os';

const INSTANCE = process.env.INSTANCE_ID ?? `${os.hostname()}/${process.env.NODE_APP_INSTANCE ?? 0}`;
const digest = (text) => createHash('sha256').update(text).digest();

export function probe(request, response) {
  const token = process.env.PROBE_TOKEN ?? '';
  const given = (request.headers.authorization ?? '').replace(/^Bearer /, '');
  if (!token || !timingSafeEqual(digest(given), digest(token))) return response.writeHead(401).end();
  const collected = typeof globalThis.gc === 'function' && /[?&]collect=1\b/.test(request.url);
  if (collected) globalThis.gc();
  const { rss, heapUsed, heapTotal, external, arrayBuffers } = process.memoryUsage();
  const limit = process.constrainedMemory?.() ?? 0;
  request.socket.server.getConnections((error, connections) => {
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' });
    response.end(JSON.stringify({
      instance: INSTANCE, pid: process.pid, uptime_s: process.uptime(), time_ms: Date.now(), collected,
      rss, heap_used: heapUsed, heap_total: heapTotal, external, array_buffers: arrayBuffers,
      memory_limit: limit > 0 && limit < os.totalmem() ? limit : undefined,
      connections: error ? undefined : connections,
    }));
  });
}
