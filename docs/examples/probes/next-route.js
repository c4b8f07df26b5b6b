// What this process takes, as JSON for streamgauge: app/api/probe/route.js of a Next.js app.
// Set PROBE_TOKEN; without it nobody gets in. NODE_OPTIONS=--expose-gc lets garbage be collected before a snapshot.
import { createHash, timingSafeEqual } from 'node:crypto';
import os from 'node:os';

export const runtime = 'nodejs';
export const dynamic = 'force-dynamic';

const INSTANCE = process.env.INSTANCE_ID ?? `${os.hostname()}/${process.env.NODE_APP_INSTANCE ?? 0}`;
const digest = (text) => createHash('sha256').update(text).digest();

export function GET(request) {
  const token = process.env.PROBE_TOKEN ?? '';
  const given = (request.headers.get('authorization') ?? '').replace(/^Bearer /, '');
  if (!token || !timingSafeEqual(digest(given), digest(token))) return new Response(null, { status: 401 });
  const collected = typeof globalThis.gc === 'function' && new URL(request.url).searchParams.get('collect') === '1';
  if (collected) globalThis.gc();
  const { rss, heapUsed, heapTotal, external, arrayBuffers } = process.memoryUsage();
  const limit = process.constrainedMemory?.() ?? 0;
  return Response.json({
    instance: INSTANCE, pid: process.pid, uptime_s: process.uptime(), time_ms: Date.now(), collected,
    rss, heap_used: heapUsed, heap_total: heapTotal, external, array_buffers: arrayBuffers,
    memory_limit: limit > 0 && limit < os.totalmem() ? limit : undefined,
    connections: process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length, // in and out
  }, { headers: { 'cache-control': 'no-store' } });
}
