// node fetch_client.mjs URL MODEL STREAMS REQUESTS: a load client of the usual kind, Node's own fetch (undici).
//
// STREAMS loops ask one after the other until REQUESTS were sent. TTFT is from just before the call until the first
// piece of text was decoded. It prints {"ttft_ms": [...], "failed": n}.

const [url, model, streams, requests] = process.argv.slice(2);
const body = JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Why is the sky blue?" }] });
const found = [];
let left = Number(requests);
let failed = 0;

// The text a line of the stream brings.
function textOf(line) {
  if (!line.startsWith("data: {")) return "";
  return JSON.parse(line.slice(6)).choices[0]?.delta.content ?? "";
}

// One answer, read to its end: ms to its first text.
async function ask() {
  const began = performance.now();
  const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  const decoder = new TextDecoder();
  let first;
  let rest = "";
  for await (const bytes of answer.body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (textOf(line) && first === undefined) first = performance.now();
    }
  }
  return first === undefined ? undefined : first - began;
}

async function stream() {
  while (left-- > 0) {
    const took = await ask().catch(() => undefined);
    if (took === undefined) failed++;
    else found.push(took);
  }
}

await Promise.all(Array.from({ length: Number(streams) }, stream));
console.log(JSON.stringify({ ttft_ms: found, failed }));
