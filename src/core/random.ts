/**
 * @file Random numbers by address: each value is a function of (seed, stream name, step, element) and nothing else, so a batch may be
 * cut over devices anyhow, and a run resumed anywhere, and the numbers stay the same. Only exactly rounded operations are used, so
 * they are also the same on every JavaScript engine.
 */
import { DiffusionPipeError } from './errors.ts';

/**
 * One named stream of random numbers. Its methods draw nothing and remember nothing: they evaluate the stream at an address.
 * The kinds of values (`uint32s` with `uniforms`, `uniform`, `normals` with `normal`, `permutation`) are independent of each other.
 * A step holds 2^34 elements (2^33 of `uniform`).
 */
export interface RandomStream {
	/** The seed, modulo 2^64. */
	readonly seed: bigint;
	readonly name: string;
	/** Fills `out` with the raw 32-bit words of elements `offset`, `offset` + 1, ... of `step`, and returns it. */
	uint32s(out: Uint32Array, step: number, offset?: number): Uint32Array;
	/** Fills `out` with uniform values in [0, 1), multiples of 2^-24 (the top bits of the same element of `uint32s`), and returns it. */
	uniforms(out: Float32Array, step: number, offset?: number): Float32Array;
	/** Fills `out` with standard normal values (Box-Muller in float64, rounded once; at most 6.77 in magnitude), and returns it. */
	normals(out: Float32Array, step: number, offset?: number): Float32Array;
	/** One uniform value in [0, 1) with 53 random bits. */
	uniform(step: number, element: number): number;
	/** The element of `normals` before it is rounded to float32. */
	normal(step: number, element: number): number;
	/** A random order of 0 .. n-1 for this epoch (Fisher-Yates; each choice is off from uniform by less than n / 2^53). */
	permutation(epoch: number, n: number): Uint32Array;
}

/**
 * The stream `name` of `seed` (a safe integer, or any bigint, taken modulo 2^64).
 *
 * Numbers come from Philox4x32-10. The stream's key is the first two words of the block at counter (h mod 2^32, h div 2^32, 0, 0) under
 * the key (seed mod 2^32, seed div 2^32), where h = `hashName(name)`. Block b of a step has the counter (b, kind, step mod 2^32,
 * step div 2^32), with kind 0 for words, 1 for `uniform`, 2 for normals and 3 for permutations; element i of the words is word i mod 4 of
 * block i div 4.
 */
export function randomStream(seed: number | bigint, name: string): RandomStream {
	const place = `random stream '${name}'`;
	if (typeof seed === 'number' && !Number.isSafeInteger(seed)) {
		throw new DiffusionPipeError('input', 'bad seed', { place, expected: 'a whole number below 2^53, or a bigint', found: String(seed) });
	}
	const seed64 = BigInt.asUintN(64, BigInt(seed));
	const [key0, key1] = streamKey(seed64, name);
	const words = (out: Uint32Array, count: number, kind: number, step: number, offset: number) => {
		checkAddress(place, step, offset, count);
		philoxWords(out, count, offset, kind, step, key0, key1);
	};
	const scratch = new Uint32Array(4096);
	const pair = new Uint32Array(2);

	/** Runs `use` over [0, count) in pieces, with the words of each piece in `scratch`. Pieces start at even elements when `offset` is even. */
	const inPieces = (count: number, kind: number, step: number, offset: number, use: (start: number, end: number) => void) => {
		for (let start = 0; start < count; start += scratch.length) {
			const length = Math.min(scratch.length, count - start);
			words(scratch, length, kind, step, offset + start);
			use(start, start + length);
		}
	};

	const normal = (step: number, element: number): number => {
		const first = element - (element % 2);
		words(pair, 2, NORMAL, step, first);
		return radius(pair[0]!) * cosineOfTurn(element === first ? pair[1]! : pair[1]! - QUARTER);
	};

	return {
		seed: seed64,
		name,
		uint32s(out, step, offset = 0) {
			words(out, out.length, WORD, step, offset);
			return out;
		},
		uniforms(out, step, offset = 0) {
			inPieces(out.length, WORD, step, offset, (start, end) => {
				for (let i = start; i < end; i++) out[i] = (scratch[i - start]! >>> 8) * 2 ** -24;
			});
			return out;
		},
		normals(out, step, offset = 0) {
			checkAddress(place, step, offset, out.length);
			// Elements 2k and 2k+1 are the two values of one Box-Muller pair; an odd first or last element needs only half of its pair.
			const head = Math.min(offset % 2, out.length);
			const tail = (out.length - head) % 2;
			if (head === 1) out[0] = normal(step, offset);
			inPieces(out.length - head - tail, NORMAL, step, offset + head, (start, end) => {
				for (let i = start; i < end; i += 2) {
					const r = radius(scratch[i - start]!);
					const turn = scratch[i - start + 1]!;
					out[head + i] = r * cosineOfTurn(turn);
					out[head + i + 1] = r * cosineOfTurn(turn - QUARTER);
				}
			});
			if (tail === 1) out[out.length - 1] = normal(step, offset + out.length - 1);
			return out;
		},
		uniform(step, element) {
			words(pair, 2, UNIFORM, step, 2 * element);
			return unit53(pair[0]!, pair[1]!);
		},
		normal,
		permutation(epoch, n) {
			if (!Number.isInteger(n) || n < 0 || n >= 2 ** 32) {
				throw new DiffusionPipeError('input', 'bad permutation size', { place, expected: 'a whole number below 2^32', found: String(n) });
			}
			const order = new Uint32Array(n);
			for (let i = 0; i < n; i++) order[i] = i;
			inPieces(2 * n, PERMUTATION, epoch, 0, (start, end) => {
				for (let i = start; i < end; i += 2) {
					const last = n - 1 - i / 2;
					const chosen = Math.floor(unit53(scratch[i - start]!, scratch[i - start + 1]!) * (last + 1));
					const value = order[last]!;
					order[last] = order[chosen]!;
					order[chosen] = value;
				}
			});
			return order;
		},
	};
}

const WORD = 0;
const UNIFORM = 1;
const NORMAL = 2;
const PERMUTATION = 3;
const QUARTER = 2 ** 30;

/** FNV-1a, 64 bits, of the name's UTF-8 bytes: how a stream's name enters its key. */
export function hashName(name: string): bigint {
	let hash = 0xcbf29ce484222325n;
	for (const byte of new TextEncoder().encode(name)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
	return hash;
}

/**
 * One block of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) into `out[0..3]`.
 * `counter` and `key` are 32-bit words, least significant first.
 */
export function philox4x32(
	counter: readonly [number, number, number, number],
	key: readonly [number, number],
	out: Uint32Array = new Uint32Array(4),
): Uint32Array {
	philoxBlock(counter[0], counter[1], counter[2], counter[3], key[0], key[1], out, 0);
	return out;
}

function streamKey(seed: bigint, name: string): [number, number] {
	const split = (x: bigint) => [Number(x & 0xffffffffn), Number(x >> 32n)] as const;
	const block = philox4x32([...split(hashName(name)), 0, 0], split(seed));
	return [block[0]!, block[1]!];
}

function checkAddress(place: string, step: number, offset: number, count: number): void {
	const fail = (what: string, expected: string, found: number): never => {
		throw new DiffusionPipeError('input', `bad ${what}`, { place, expected, found: String(found) });
	};
	if (!Number.isSafeInteger(step) || step < 0) fail('step', 'a whole number from 0', step);
	if (!Number.isSafeInteger(offset) || offset < 0) fail('element', 'a whole number from 0', offset);
	if (offset + count > 2 ** 34) fail('element', 'at most 2^34 elements in a step', offset + count);
}

/** Writes words `offset` .. `offset + count` of a step to `out[0 ..]`. */
function philoxWords(out: Uint32Array, count: number, offset: number, kind: number, step: number, key0: number, key1: number): void {
	const low = step >>> 0;
	const high = Math.floor(step / 2 ** 32);
	let i = 0;
	let block = Math.floor(offset / 4);
	const partial = (skip: number) => {
		const whole = new Uint32Array(4);
		philoxBlock(block++, kind, low, high, key0, key1, whole, 0);
		for (let k = skip; k < 4 && i < count; k++) out[i++] = whole[k]!;
	};
	if (offset % 4 !== 0) partial(offset % 4);
	for (; i + 4 <= count; i += 4) philoxBlock(block++, kind, low, high, key0, key1, out, i);
	if (i < count) partial(0);
}

function philoxBlock(c0: number, c1: number, c2: number, c3: number, k0: number, k1: number, out: Uint32Array, at: number): void {
	for (let round = 0; round < 10; round++) {
		const high0 = multiplyHigh(0xd251, 0x1f53, c0);
		const high1 = multiplyHigh(0xcd9e, 0x8d57, c2);
		const low0 = Math.imul(0xd2511f53, c0);
		const low1 = Math.imul(0xcd9e8d57, c2);
		c0 = high1 ^ c1 ^ k0;
		c1 = low1;
		c2 = high0 ^ c3 ^ k1;
		c3 = low0;
		k0 = (k0 + 0x9e3779b9) | 0;
		k1 = (k1 + 0xbb67ae85) | 0;
	}
	out[at] = c0;
	out[at + 1] = c1;
	out[at + 2] = c2;
	out[at + 3] = c3;
}

/** The upper 32 bits of (2^16 aHigh + aLow) * b, from 16-bit halves because a double cannot hold the whole product. */
function multiplyHigh(aHigh: number, aLow: number, b: number): number {
	const bHigh = b >>> 16;
	const bLow = b & 0xffff;
	// Neither sum exceeds 32 bits, so wrapping to an int32 (which V8 keeps in a register) loses nothing.
	const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
	const carry = ((middle & 0xffff) + Math.imul(aLow, bHigh)) | 0;
	return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carry >>> 16)) | 0;
}

/** [0, 1) with 53 bits from two words. */
function unit53(a: number, b: number): number {
	return ((a >>> 5) * 2 ** 26 + (b >>> 6)) * 2 ** -53;
}

/** Box-Muller's radius sqrt(-2 ln u) of u = (word + 1/2) / 2^32. */
function radius(word: number): number {
	// u = odd / 2^33, and odd = mantissa * 2^exponent with the mantissa between sqrt(1/2) and sqrt(2), where the series is short.
	const odd = 2 * word + 1;
	let exponent = 32 - Math.clz32(word);
	let mantissa = odd * inversePowers[exponent]!;
	if (mantissa > Math.SQRT2) {
		mantissa *= 0.5;
		exponent++;
	}
	const s = (mantissa - 1) / (mantissa + 1);
	const z = s * s;
	// ln m = 2 atanh(s) = 2 (s + s^3/3 + s^5/5 + ...)
	let series = 1 / 21;
	for (let k = 19; k > 0; k -= 2) series = series * z + reciprocals[k]!;
	return Math.sqrt(2 * Math.LN2 * (33 - exponent) - 4 * s * series);
}

/** cos(2 pi w / 2^32) for a whole number w, by its distance to the nearest quarter turn. */
function cosineOfTurn(w: number): number {
	const quarter = (w + 2 ** 29) >>> 30;
	const x = ((w - quarter * QUARTER) | 0) * (Math.PI * 2 ** -31);
	const z = x * x;
	let value: number;
	if (quarter % 2 === 0) {
		value = 1 + z * (-1 / 2 + z * (1 / 24 + z * (-1 / 720 + z * (1 / 40320 + z * (-1 / 3628800 + z * (1 / 479001600 - z / 87178291200))))));
	} else {
		value =
			x *
			(1 +
				z * (-1 / 6 + z * (1 / 120 + z * (-1 / 5040 + z * (1 / 362880 + z * (-1 / 39916800 + z * (1 / 6227020800 - z / 1307674368000)))))));
	}
	return quarter === 1 || quarter === 2 ? -value : value;
}

const reciprocals = Float64Array.from({ length: 22 }, (_, k) => (k === 0 ? 0 : 1 / k));
const inversePowers = Float64Array.from({ length: 34 }, (_, k) => 2 ** -k);
