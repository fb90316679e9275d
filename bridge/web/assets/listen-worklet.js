// Plays both sides of a call: the caller left, the agent right, each a little into the other ear.
// Frames come unevenly; a side that runs dry waits until some audio is there again.

const START_S = 0.2;
const MAX_AHEAD_S = { 0: 2, 1: 60 }; // the caller comes as it is spoken, the agent ahead of its playing

function ulaw(byte) {
  const code = ~byte & 0xff;
  const magnitude = (((code & 0x0f) << 3) + 0x84) << ((code & 0x70) >> 4);
  return ((code & 0x80) ? 0x84 - magnitude : magnitude - 0x84) / 32768;
}

function alaw(byte) {
  const code = byte ^ 0x55;
  const segment = (code & 0x70) >> 4;
  let magnitude = ((code & 0x0f) << 4) + 8;
  if (segment) magnitude = (magnitude + 0x100) << (segment - 1);
  return ((code & 0x80) ? magnitude : -magnitude) / 32768;
}

function decoded(encoding, payload) {
  if (encoding === "pcm") {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    return Float32Array.from({ length: payload.byteLength >> 1 }, (_, place) => view.getInt16(2 * place, true) / 32768);
  }
  return Float32Array.from(payload, encoding === "alaw" ? alaw : ulaw);
}

class Side {
  constructor() { this.clear(); }
  clear() { this.chunks = []; this.size = 0; this.at = 0; this.playing = false; }
  push(samples, maximum) {
    if (this.size + samples.length > maximum) this.clear();
    this.chunks.push(samples);
    this.size += samples.length;
  }
  // The sample at a fraction between two of the stream's own.
  next(step) {
    const chunk = this.chunks[0];
    if (!chunk) { this.playing = false; return 0; }
    const whole = Math.floor(this.at);
    const one = chunk[whole];
    const other = whole + 1 < chunk.length ? chunk[whole + 1] : this.chunks[1]?.[0] ?? one;
    const sample = one + (other - one) * (this.at - whole);
    this.at += step;
    if (this.at >= chunk.length) {
      this.at -= chunk.length;
      this.size -= chunk.length;
      this.chunks.shift();
    }
    return sample;
  }
}

class TwoSides extends AudioWorkletProcessor {
  constructor() {
    super();
    this.sides = [new Side(), new Side()];
    this.encoding = "ulaw";
    this.rate = 8000;
    this.played = 0;
    this.blocks = 0;
    this.port.onmessage = ({ data }) => {
      if (data.format) {
        const [encoding, rate] = data.format.split("_");
        this.encoding = encoding;
        this.rate = Number(rate);
      } else if (data.kind === 2) {
        this.sides[1].clear();
      } else if (this.sides[data.kind]) {
        this.sides[data.kind].push(decoded(this.encoding, data.payload), MAX_AHEAD_S[data.kind] * this.rate);
      }
    };
  }

  process(_inputs, [output]) {
    const step = this.rate / sampleRate;
    for (const side of this.sides) side.playing ||= side.size >= START_S * this.rate;
    const [caller, agent] = this.sides;
    for (let place = 0; place < output[0].length; place += 1) {
      const left = caller.playing ? caller.next(step) : 0;
      const right = agent.playing ? agent.next(step) : 0;
      if (left || right) this.played += 1;
      output[0][place] = left * 0.8 + right * 0.3;
      if (output[1]) output[1][place] = right * 0.8 + left * 0.3;
    }
    this.blocks += 1;
    if (this.blocks % 100 === 0) this.port.postMessage(this.played);
    return true;
  }
}

registerProcessor("two-sides", TwoSides);
