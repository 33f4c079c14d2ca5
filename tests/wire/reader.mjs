// A second reader of spike packets, written from docs/wire-format.md alone: node tests/wire/reader.mjs GOLDEN.json
// It decodes the golden packets of codecs 1, 2, 33 and 35, and the golden streams with their references.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const sha = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const word = (value) => BigInt.asUintN(64, value);
const fail = (field, why) => { throw new Error(`${field}: ${why}`); };

// ---- section 2: header
const KINDS = ["", "spikes", "weights", "labels", "counts", "probabilities", "class-means", "partial-spikes", "hint-spikes", "masked-votes", "selected-weights"];
const AXES = { spikes: 3, counts: 3, labels: 2 };

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function header(packet) {
  if (packet[0] !== 0x53 || packet[1] !== 0x46) fail("magic", "no packet");
  if (packet[2] !== 2) fail("version", packet[2]);
  if (packet.readUInt32LE(3) !== crc32(packet.subarray(7))) fail("crc", "differs");
  let at = 9;
  const take = (count) => packet.subarray(at, (at += count));
  const varint = () => {
    let value = 0, scale = 1;
    for (;;) {
      const byte = packet[at++];
      value += (byte & 127) * scale;
      scale *= 128;
      if (byte < 128) return value;
    }
  };
  const flags = packet[8], found = { codec: packet[7], down: flags & 1, kind: KINDS[flags >> 3] };
  found.round = varint();
  found.client = varint() - 1;
  found.shape = Array.from({ length: AXES[found.kind] }, varint);
  if (flags & 2) found.reference = take(8);
  else found.content = take(8);
  if (flags & 4) found.holds = take(4);
  if (!found.down) found.accuracy = take(4).readFloatLE();
  found.payload = packet.subarray(at);
  return found;
}

// ---- section 5.1: tables
const SIGMOID = [
  32768, 34813, 36843, 38841, 40793, 42687, 44511, 46254, 47911, 49474, 50941, 52310, 53581, 54754, 55834, 56822,
  57724, 58544, 59287, 59959, 60565, 61109, 61598, 62036, 62428, 62778, 63090, 63368, 63615, 63835, 64030, 64203,
  64357, 64494, 64614, 64721, 64816, 64900, 64974, 65039, 65097, 65149, 65194, 65234, 65269, 65300, 65328, 65352,
  65374, 65393, 65410, 65425, 65438, 65449, 65459, 65468, 65476, 65483, 65489, 65495, 65500, 65504, 65508, 65511,
  65514, 65517, 65519, 65521, 65523, 65524, 65526, 65527, 65528, 65529, 65530, 65530, 65531, 65532, 65532, 65533,
  65533, 65533, 65534, 65534, 65534, 65534, 65535, 65535, 65535, 65535, 65535, 65535, 65535, 65535, 65535, 65536, 65536,
];
const clip = (x, low, high) => Math.min(Math.max(x, low), high);
const knot = (i) => (i >= 96 ? SIGMOID[i - 96] : 65536 - SIGMOID[96 - i]);
function squash(x) {
  x = clip(x, -3071, 3071);
  const i = (x + 3072) >> 5, f = (x + 3072) & 31;
  return clip((knot(i) * (32 - f) + (i < 192 ? knot(i + 1) : 0) * f + 16) >> 5, 4, 65532);
}
const STRETCH = new Int16Array(4096);
for (let j = 0, x = -3071; j < 4096; j++) {
  while (x < 3071 && squash(x) < 16 * j + 8) x++;
  STRETCH[j] = x;
}

// ---- section 5.2: state
const INPUTS = [10, 5, 9], FIRST = [0, 10, 15], A = [0, 60, 120], B = [36, 96, 376], SETS = 412;

function fresh() {
  const weights = Array.from({ length: SETS }, () => new Int32Array(12));
  for (const kind of [0, 1, 2])
    for (let set = A[kind]; set < (kind < 2 ? A[kind + 1] : SETS); set++)
      weights[set].fill(Math.floor(81920 / INPUTS[kind]), 0, INPUTS[kind]);
  return { p: new Int32Array(24 * 4096), n: new Uint16Array(24 * 4096), weights, coded: [0, 0, 0] };
}

function recall(memory) {
  if (!memory?.tables) return fresh();
  const state = fresh();
  memory.tables.forEach((v, i) => {
    if (v === 0) return;
    state.n[i] = v & 15;
    state.p[i] = squash(2 * ((v >> 4) - 2048) + 1) * 64;
  });
  state.weights = memory.weights.map((set) => Int32Array.from(set));
  state.coded = [...memory.coded];
  return state;
}

function keep(state, previous) {
  const tables = Uint16Array.from(state.n, (n, i) =>
    n ? (((STRETCH[state.p[i] >> 10] >> 1) + 2048) << 4) | Math.min(n, 12) : 0);
  return { coded: state.coded, previous, tables, weights: state.weights };
}

function memoryId(memory) { // section 4
  const bytes = {
    coded: (coded) => Buffer.from(BigInt64Array.from(coded, BigInt).buffer),
    previous: (bits) => bits,
    tables: (tables) => Buffer.from(tables.buffer),
    weights: (weights) => Buffer.concat(weights.map((set) => Buffer.from(set.buffer))),
  };
  const parts = Object.keys(memory).sort().flatMap((name) => [name + "\0", bytes[name](memory[name])]);
  return sha(...parts).subarray(0, 8);
}

// ---- sections 5.3 and 5.5: one decision
class Decoder {
  constructor(code, state) {
    Object.assign(this, { code, state, low: 0, high: 0xffffffff, window: 0, at: 0, shifted: 0 });
    for (let i = 0; i < 4; i++) this.window = ((this.window << 8) | this.next()) >>> 0;
    this.rate = [0, 1, 2].map((kind) => this.rateOf(kind));
  }
  next() { return this.at < this.code.length ? this.code[this.at++] : (this.at++, 0); }
  rateOf(kind) { return Math.max(131, Math.floor(2622000 / (2000 + this.state.coded[kind]))); }

  bit(p) {
    const mid = this.low + Math.floor(((this.high - this.low) * p) / 65536), bit = this.window <= mid ? 1 : 0;
    if (bit) this.high = mid;
    else this.low = mid + 1;
    while (this.low >>> 24 === this.high >>> 24) {
      this.low = (this.low << 8) >>> 0;
      this.high = ((this.high << 8) | 255) >>> 0;
      this.window = ((this.window << 8) | this.next()) >>> 0;
      this.shifted++;
    }
    return bit;
  }

  decide(kind, keys, a, b) {
    const { p: ps, n: ns, weights, coded } = this.state;
    const slots = keys.map((key, i) =>
      (FIRST[kind] + i) * 4096 + Number(word(word(BigInt(key)) * 0x9e3779b97f4a7c15n) >> 52n));
    const x = slots.map((slot) => (ns[slot] > 0 ? STRETCH[ps[slot] >> 10] : 0)).concat(77);
    const sets = [weights[A[kind] + a], weights[B[kind] + b]];
    const dots = sets.map((w) => clip(x.reduce((sum, xi, i) => sum + ((w[i] * xi) >> 8), 0) >> 8, -3071, 3071));
    const p = squash((dots[0] + dots[1]) >> 1), bit = this.bit(p);
    sets.forEach((w, s) => {
      const step = (((bit << 16) - squash(dots[s])) * this.rate[kind]) >> 10;
      x.forEach((xi, i) => { w[i] = clip(w[i] + ((step * xi + 8192) >> 14), 1 - 2 ** 18, 2 ** 18 - 1); });
    });
    for (const slot of slots) {
      if (ns[slot] === 0) ps[slot] = 64 * p;
      ns[slot] = Math.min(ns[slot] + 1, 255);
      const target = bit ? 2 ** 22 - 1 : 0;
      ps[slot] += Math.floor(((target - ps[slot]) * Math.floor(655360 / (10 * ns[slot] + 9))) / 65536);
    }
    if (++coded[kind] % 64 === 0) this.rate[kind] = this.rateOf(kind);
    return bit;
  }

  finish() {
    let tail = [], value = 0;
    for (let bytes = 0; bytes <= 4; bytes++) {
      value = bytes === 4 ? this.high : bytes === 0 ? 0 : Math.floor(this.high / 2 ** (32 - 8 * bytes)) * 2 ** (32 - 8 * bytes);
      if (value >= this.low) { tail = [24, 16, 8, 0].slice(0, bytes).map((shift) => (value >>> shift) & 255); break; }
    }
    const written = [...this.code.subarray(0, this.shifted)];
    while (written.length < this.shifted) written.push(0);
    written.push(...tail);
    while (written.length && written.at(-1) === 0) written.pop();
    if (Buffer.compare(Buffer.from(written), this.code)) fail("payload", "not what an encoder writes");
  }
}

// ---- section 5.4: contexts
const ones = (train) => { let count = 0; for (; train; train &= train - 1n) count++; return count; };

function trainsOf(bits, [n, c, t]) {
  const found = [];
  for (let i = 0; i < n * c; i++) {
    let train = 0n;
    for (let k = i * t; k < (i + 1) * t; k++) train = (train << 1n) | BigInt((bits[k >> 3] >> (7 - (k & 7))) & 1);
    found.push(train);
  }
  return found;
}

function bitsOf(trains, [n, c, t]) {
  const bits = Buffer.alloc(Math.ceil((n * c * t) / 8));
  trains.forEach((train, i) => {
    for (let k = 0; k < t; k++) if ((train >> BigInt(t - 1 - k)) & 1n) bits[(i * t + k) >> 3] |= 128 >> ((i * t + k) & 7);
  });
  return bits;
}

function shapeOf(train, T, absent) {
  if (absent) return 5;
  const count = ones(train);
  return count === 0 ? 0 : count === T ? 1 : count === 1 ? 2 : 2 * count <= T ? 3 : 4;
}

const topOf = (counts, C) => counts.reduce((top, count, c) => (count > (top === C ? 0 : counts[top]) ? c : top), C);

function decodeTrains(code, shape, state, global, previous, near) {
  const [N, C, T] = shape, M = 0xd6e8feb86659fd93n, W = C + 1, full = (1n << BigInt(T)) - 1n;
  const coder = new Decoder(code, state), out = new Array(N * C).fill(0n);
  const source = (bits) => (bits ? trainsOf(bits, shape) : null);
  const gAll = source(global), pAll = source(previous), at = (train, t) => Number((train >> BigInt(T - 1 - t)) & 1n);
  for (let r = 0; r < N; r++) {
    const row = (all) => (all ? all.slice(r * C, r * C + C) : new Array(C).fill(0n));
    const g = row(gAll), p = row(pAll), nearRows = near ? near[r].filter((k) => k >= 0) : [];
    const n = nearRows.length ? out.slice(nearRows[0] * C, nearRows[0] * C + C) : new Array(C).fill(0n);
    const spikes = [], alike = [];
    for (let c = 0; c < C; c++) {
      spikes[c] = nearRows.reduce((sum, k) => sum + ones(out[k * C + c]), 0);
      alike[c] = nearRows.filter((k) => out[k * C + c] !== 0n).length;
    }
    const score = g.map((train, c) => ones(train) + ones(p[c]));
    const order = [...score.keys()].sort((a, b) => score[b] - score[a] || a - b);
    const gTop = topOf(g.map(ones), C), pTop = topOf(p.map(ones), C), nTop = topOf(spikes, C);
    let fired = 0, fullSeen = 0, surprises = 0, best = 0, top = C, any = 0n;
    order.forEach((c, j) => {
      const gs = shapeOf(g[c], T, !gAll), ps = shapeOf(p[c], T, !pAll), ns = shapeOf(n[c], T, !nearRows.length);
      const gp = 6 * gs + ps, f = Math.min(fired, 3);
      const remain = order.slice(j).filter((k) => score[k] > 0).length;
      const strength = best === 0 ? 0 : best <= 2 ? 1 : best <= Math.floor(T / 2) ? 2 : best < T ? 3 : 4;
      const st = 3 * (2 * f + fullSeen) + Math.min(remain, 2);
      const silent = coder.decide(0, [
        gp, 36 * c + gp, 5 * gp + strength, 4 * (16 * gp + Math.min(j, 15)) + f, 6 * (c * W + gTop) + ps,
        6 * (c * W + pTop) + gs, 36 * (c * W + top) + gp, 36 * (c * W + nTop) + gp, 6 * (6 * gp + ns) + alike[c],
        512 * (6 * c + alike[c]) + spikes[c],
      ], gp, st);
      let v = 0n;
      if (!silent) {
        if (T === 1 || coder.decide(1, [
          gp, 36 * c + gp, 4 * (5 * gp + strength) + Math.min(surprises, 3), 6 * (6 * gp + ns) + alike[c], 24 * spikes[c] + st,
        ], gp, st)) v = full;
        else {
          let node = 1n, count = 0, mg = g[c] ? 1 : 0, mp = p[c] ? 1 : 0;
          for (let t = 0; t < T; t++) {
            const gb = at(g[c], t), pb = at(p[c], t), nb = at(n[c], t), last = Number(node & 7n);
            const around = 4 * (t ? at(g[c], t - 1) : 0) + 2 * gb + (t < T - 1 ? at(g[c], t + 1) : 0);
            const votes = nearRows.filter((k) => at(out[k * C + c], t)).length;
            let bit;
            if (t === T - 1 && (count === 0 || count === T - 1)) bit = count === 0 ? 1 : 0;
            else
              bit = coder.decide(2, [
                8 * (6 * (2 * around + mg) + gs) + last, 36 * (4 * (2 * gb + pb) + 2 * mg + mp) + gp,
                256 * t + Number(node & 255n), g[c] * M + node, 4 * (4 * (64 * c + t) + Math.min(count, 3)) + (last & 3),
                4 * (8 * (2 * (2 * gb + pb) + at(any, t)) + last) + 2 * mp + mg,
                4 * (64 * (4 * (2 * (6 * ns + votes) + nb) + 2 * gb + pb) + t) + (last & 3),
                64 * (8 * spikes[c] + last) + t, n[c] * M + node,
              ], 4 * t + 2 * mg + mp, gp);
            node = word(2n * node + BigInt(bit));
            count += bit;
            mg &= bit === gb ? 1 : 0;
            mp &= bit === pb ? 1 : 0;
          }
          v = node & full;
        }
      }
      out[r * C + c] = v;
      surprises += (v === 0n) !== (g[c] === 0n) ? 1 : 0;
      if (v) {
        fired++;
        if (v === full) fullSeen = 1;
        any |= v;
        if (ones(v) > best) [best, top] = [ones(v), c];
      }
    });
  }
  coder.finish();
  return bitsOf(out, shape);
}

function decodePayload(payload, shape, memory, side) { // section 5.6
  const size = Math.ceil((shape[0] * shape[1] * shape[2]) / 8);
  if (payload.length > size) fail("payload", "longer than plain bits");
  if (payload.length === size) return { bits: payload, memory: { ...memory, previous: payload } };
  const state = recall(memory);
  const bits = decodeTrains(payload, shape, state, side?.global, memory?.previous, side?.near);
  return { bits, memory: keep(state, bits) };
}

// ---- what the golden file holds
const golden = JSON.parse(readFileSync(process.argv[2]));
const CONTENT = Buffer.from([0, 1, 2, 3, 4, 5, 6, 7]); // of every golden packet
let packets = 0, referenced = 0;
const check = (name, found, expected) => { if (found !== expected) fail(name, `${found} is not ${expected}`); packets++; };

for (const [name, entry] of Object.entries(golden.packets)) {
  if (!["spikes", "labels", "counts"].includes(entry.kind) || entry.codec === "plain") continue;
  const { codec, shape, payload, accuracy, client, content } = header(Buffer.from(entry.packet, "hex"));
  if (accuracy !== 0.75 || client !== 2 || Buffer.compare(content, CONTENT)) fail(name, "header");
  if (codec === 1) check(name, payload.toString("hex"), entry.content);
  if (codec === 2) check(name, decodePayload(payload, shape).bits.toString("hex"), entry.content);
  const width = (value) => value.toString(2).length;
  if (codec === 33) {
    const trains = [shape[0], 1, width(shape[1])];
    const labels = trainsOf(decodePayload(payload, trains).bits, trains).map((value) => Number(value) - 1);
    check(name, JSON.stringify(labels), JSON.stringify(entry.content));
  }
  if (codec === 35) {
    const trains = [shape[0], shape[1], width(shape[2])];
    const counts = trainsOf(decodePayload(payload, trains).bits, trains).map(Number);
    check(name, JSON.stringify(counts), JSON.stringify(entry.content.flat()));
  }
}

const NOTHING = Buffer.alloc(8);
for (const [name, stream] of Object.entries(golden.streams)) {
  const memories = { 0: [], 1: [] };
  let global = null;
  for (const entry of stream) {
    const { down, shape, payload, reference, holds } = header(Buffer.from(entry.packet, "hex"));
    const known = { global: down ? null : global, near: name === "near" ? golden.near : null };
    const sideId = (side) => {
      const near = side.near && Buffer.from(Int32Array.from(side.near.flat()).buffer);
      return sha(...(side.global ? ["global\0", side.global] : []), ...(near ? ["near\0", near] : [])).subarray(0, 8);
    };
    let found = reference ? null : { memory: null, side: null };
    for (const memory of [...memories[down].toReversed(), null])
      for (const side of [known, { global: known.global }, { near: known.near }, null]) {
        const used = side && (side.global || side.near) ? side : null;
        const id = sha(memory ? memoryId(memory) : NOTHING, used ? sideId(used) : NOTHING, CONTENT).subarray(0, 8);
        if (!found && !Buffer.compare(id, reference)) found = { memory, side: used };
      }
    if (!found) fail(name, "reference is not here");
    if (holds && Buffer.compare(memoryId(memories[1 - down].at(-1)).subarray(0, 4), holds)) fail(name, "holds");
    const { bits, memory } = decodePayload(payload, shape, found.memory, found.side);
    check(name, bits.toString("hex"), entry.content);
    referenced += reference ? 1 : 0;
    memories[down] = [found.memory, memory].filter(Boolean);
    if (down) global = bits;
  }
}
console.log(JSON.stringify({ packets, referenced }));
