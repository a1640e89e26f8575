// The decoded data of one solved landscape.

import { decode } from "./dom.js";
import { Shape } from "./shape.js";
import { ranges, signed, significant, superscript } from "./wording.js";

export class Model {
  // Decoded data of one solved landscape; nothing here changes afterwards.
  constructor(data) {
    Object.assign(this, data);
    this.list = decode(data.states, Uint16Array);
    this.starts = [0]; // of each state in the list, and its end
    for (const size of decode(data.sizes, Uint16Array)) this.starts.push(this.starts.at(-1) + size);
    for (const [name, Type] of [
      ["energy", Float64Array],
      ["own", Float64Array],
      ["pearson", Float64Array],
      ["changed", Uint16Array],
      ["minimum", Uint8Array],
      ["matrix", Float64Array],
      ["frequency", Float64Array],
    ])
      this[name] = decode(data[name], Type);
    this.unitText = data.exponent ? ` ·10${superscript(data.exponent)}` : "";
    this.scale = 10 ** -data.exponent;
    this.maxChanged = this.changed.reduce((a, b) => Math.max(a, b), 0);
    this.top = (this.energy[this.count - 1] - this.energy[0]) * this.scale;
    this.edges = this.edges.filter((edge) => edge[2] !== 0);
    const off = [];
    for (let i = 0; i < this.blocks; i++) for (let j = 0; j < i; j++) off.push(Math.abs(this.h(i, j)));
    off.sort((a, b) => a - b);
    this.maxCoupling = off[off.length - 1] || 0; // 0: blocks do not know of each other
    const median = Math.max(off[off.length >> 1] || 0, this.maxCoupling * 1e-4);
    this.signedLog = this.maxCoupling > 12 * median;
    this.linearBelow = median;
    this.index = new Map();
    this.mask = new Uint8Array(this.count * this.blocks);
    for (let k = 0; k < this.count; k++) {
      const state = this.state(k);
      this.index.set(state.join("-"), k);
      for (const b of state) this.mask[k * this.blocks + b] = 1;
    }
    this.minima = Array.from({ length: this.count }, (_, k) => k).filter((k) => this.minimum[k]);
    this.levels = []; // [first rank, states]: energies closer than the tolerance are one level
    this.levelOf = new Int32Array(this.count);
    for (let k = 0; k < this.count; k++) {
      const last = this.levels[this.levels.length - 1];
      if (last && this.energy[k] - this.energy[last[0]] <= this.tolerance) last[1] += 1;
      else this.levels.push([k, 1]);
      this.levelOf[k] = this.levels.length - 1;
    }
    this.shape = new Shape(this);
    this.temperatures = this.temperatures.map((one) => ({
      ...one,
      probability: decode(one.removed, Float64Array),
    }));
    this.others = new Map();
    this.columns = Math.max(...this.block) + 1; // blocks, of which each has one unit or several
    this.unitsOf = Array.from({ length: this.columns }, () => []);
    this.block.forEach((b, u) => this.unitsOf[b].push(u));
    this.lane = this.block.map((b, u) => this.unitsOf[b].indexOf(u));
    this.lanes = Math.max(...this.unitsOf.map((own) => own.length));
    this.number = new Map(this.names.map((name, u) => [name, u]));
    this.kindsInOrder = [...new Set(this.kinds)];
  }
  // -- units by name, as core.ising.units has them -------------------------------------------------
  get halved() {
    return this.lanes > 1;
  } // blocks are seen in parts
  many(n) {
    return `${n} ${this.word}${n === 1 ? "" : "s"}`;
  }
  titled(u) {
    const name = this.names[u];
    return /^[0-9]+$/.test(name) ? `Block ${name}` : name;
  }
  stored(units) {
    // whole blocks by number, parts of one by name
    const gone = new Set(units);
    return this.unitsOf.flatMap((own, b) => {
      const removed = own.filter((u) => gone.has(u));
      return removed.length === own.length ? [b] : removed.map((u) => this.names[u]);
    });
  }
  said(units) {
    return ranges(this.stored(units));
  }
  byKind() {
    // all units, those of a kind together
    const rank = this.kinds.map((kind) => this.kindsInOrder.indexOf(kind));
    return [...this.block.keys()].sort((u, v) => rank[u] - rank[v] || u - v);
  }
  state(k) {
    return Array.from(this.list.subarray(this.starts[k], this.starts[k + 1]));
  }
  compares(units) {
    // its energy with those of the list: where M is left free, any state's
    return this.removed === null || units.length === this.removed;
  }
  continues(earlier, units) {
    // whether a state chosen in an earlier landscape is one of these: the same run and units, as many gone
    const alike = earlier.source === this.source && String(earlier.names) === String(this.names);
    return alike && this.compares(units);
  }
  get asked() {
    // how much goes, and as a tag
    return this.removed === null ? `as many ${this.word}s as the rules ask for` : this.many(this.removed);
  }
  get tag() {
    return this.removed === null ? "M free" : `M = ${this.removed}`;
  }
  h(i, j) {
    return this.matrix[i * this.blocks + j];
  }
  delta(k) {
    return (this.energy[k] - this.energy[0]) * this.scale;
  }
  show(v, digits) {
    return significant(v * this.scale, digits);
  }
  worded(v, digits) {
    // an energy with its unit; of its own power of ten where it is much smaller than the others
    const power = Math.floor(Math.log10(Math.abs(v)));
    if (v === 0 || power >= this.exponent - 1) return this.show(v, digits) + this.unitText;
    return `${significant(v / 10 ** power, digits)} ·10${superscript(power)}`;
  }
  onLevel(k) {
    return this.levels[this.levelOf[k]][1];
  }
  tone(v) {
    // position of a coupling on the diverging scale, -1..1
    if (v === 0) return 0;
    const a = Math.abs(v);
    const t = this.signedLog
      ? Math.log1p(a / this.linearBelow) / Math.log1p(this.maxCoupling / this.linearBelow)
      : a / this.maxCoupling;
    return Math.sign(v) * Math.min(1, t);
  }
  strongestPairs(s, wanted = 3) {
    const pairs = [];
    for (let a = 0; a < s.length; a++)
      for (let b = a + 1; b < s.length; b++) pairs.push([s[a], s[b], 2 * this.h(s[a], s[b])]);
    return pairs
      .filter((p) => p[2] !== 0)
      .sort((p, q) => Math.abs(q[2]) - Math.abs(p[2]))
      .slice(0, wanted);
  }
  correlation(s, t) {
    // Pearson coefficient of two choices of units, of any sizes
    const inT = new Set(t);
    const n = this.blocks;
    const p = s.length / n;
    const q = t.length / n;
    const both = s.filter((b) => inT.has(b)).length / n;
    return (both - p * q) / Math.sqrt(p * (1 - p) * q * (1 - q));
  }
  of(units) {
    // what any state is worth, listed or not
    const name = units.join("-");
    const rank = this.index.get(name);
    if (rank !== undefined)
      return {
        name,
        units,
        rank,
        energy: this.energy[rank],
        own: this.own[rank],
        pearson: this.pearson[rank],
        changed: this.changed[rank],
        minimum: !!this.minimum[rank],
        hash: this.hash[rank],
        delta: this.delta(rank),
        below: rank,
      };
    if (this.others.has(name)) return this.others.get(name);
    let own = 0;
    let pairs = 0;
    for (const i of units)
      for (const j of units)
        if (i === j) own += this.h(i, i);
        else pairs += this.h(i, j);
    const ground = this.state(0);
    const kept = new Set(ground);
    const energy = own + pairs;
    let below = 0;
    while (below < this.count && this.energy[below] < energy - this.tolerance) below += 1;
    const same = this.compares(units);
    const found = {
      name,
      units,
      energy,
      own,
      pearson: this.correlation(units, ground),
      changed: units.filter((b) => !kept.has(b)).length,
      minimum: false,
      hash: "",
      delta: same ? (energy - this.energy[0]) * this.scale : null,
      below: same ? below : null,
    };
    this.others.set(name, found);
    return found;
  }
  place(state) {
    // where it stands, in words
    if (state.rank !== undefined)
      return state.rank === 0
        ? `the ${this.first}`
        : `rank ${state.rank}, ΔE ${significant(state.delta)}${this.unitText}`;
    if (state.delta === null)
      return `removes ${this.many(state.units.length)}, the listed states ${this.removed}`;
    const height = `ΔE ${signed(state.delta)}${this.unitText}`;
    return state.below === this.count
      ? `${height}, above all ${this.count} listed`
      : `${height}, not listed; ${state.below} listed states lie below`;
  }
  get first() {
    return this.exact ? "ground state" : "lowest found";
  } // what rank 0 may be called
  nameOf(state) {
    return state.rank !== undefined ? `#${state.rank}` : state.hash || "not listed";
  }
  get spins() {
    // E = sum_{i<j} J_ij s_i s_j + sum_i h_i s_i + offset, s = 2x - 1: J = H / 2, h_i = half the row sum
    if (this.spinForm) return this.spinForm;
    const n = this.blocks;
    const h = new Float64Array(n);
    let trace = 0;
    let total = 0;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) h[i] += this.h(i, j) / 2;
      trace += this.h(i, i);
      total += 2 * h[i];
    }
    return (this.spinForm = { h, offset: (total + trace) / 4 });
  }
  spinParts(state) {
    // [fields, pairs, offset] of its energy
    const { h, offset } = this.spins;
    const up = new Set(state.units);
    let fields = 0;
    for (let i = 0; i < this.blocks; i++) fields += up.has(i) ? h[i] : -h[i];
    return [fields, state.energy - fields - offset, offset];
  }
}
