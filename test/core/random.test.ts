import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { hashName, philox4x32, randomStream } from '../../src/core/random.ts';

const hex = (words: Iterable<number>) => [...words].map((w) => w.toString(16).padStart(8, '0')).join(' ');

describe('philox4x32', () => {
	it.each([
		[[0, 0, 0, 0], [0, 0], '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
		[[0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], '408f276d 41c83b0e a20bc7c6 6d5451fd'],
		// The digits of pi, the third vector of Random123's kat_vectors.
		[[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], 'd16cfe09 94fdcceb 5001e420 24126ea1'],
	] as const)('gives the published block for counter %j and key %j', (counter, key, block) => {
		expect(hex(philox4x32(counter, key))).toBe(block);
	});

	it('equals the definition in exact integers for any counter and key', () => {
		const word = fc.integer({ min: 0, max: 0xffffffff });
		fc.assert(
			fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), (counter, key) => {
				expect([...philox4x32(counter, key)]).toEqual(exactPhilox(counter, key));
			}),
		);
	});
});

function exactPhilox(counter: number[], key: number[]): number[] {
	const mask = 0xffffffffn;
	let c = counter.map(BigInt);
	let [k0, k1] = key.map(BigInt) as [bigint, bigint];
	for (let round = 0; round < 10; round++) {
		const p0 = 0xd2511f53n * c[0]!;
		const p1 = 0xcd9e8d57n * c[2]!;
		c = [(p1 >> 32n) ^ c[1]! ^ k0, p1 & mask, (p0 >> 32n) ^ c[3]! ^ k1, p0 & mask];
		k0 = (k0 + 0x9e3779b9n) & mask;
		k1 = (k1 + 0xbb67ae85n) & mask;
	}
	return c.map(Number);
}

it('hashName is FNV-1a', () => {
	expect(hashName('')).toBe(0xcbf29ce484222325n);
	expect(hashName('a')).toBe(0xaf63dc4c8601ec8cn);
	expect(hashName('foobar')).toBe(0x85944171f73967e8n);
});

describe('randomStream', () => {
	const seed = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
	const step = fc.oneof(fc.nat(1000), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));

	it('addresses blocks as documented', () => {
		const stream = randomStream(2n ** 40n + 7n, 'noise');
		const h = hashName('noise');
		const [key0, key1] = philox4x32([Number(h & 0xffffffffn), Number(h >> 32n), 0, 0], [7, 256]);
		const expected = philox4x32([3, 0, 5, 1], [key0!, key1!]);
		expect([...stream.uint32s(new Uint32Array(4), 2 ** 32 + 5, 12)]).toEqual([...expected]);
	});

	it('keeps the numbers it has always given', () => {
		const stream = randomStream(42, 'noise');
		expect(hex(stream.uint32s(new Uint32Array(4), 0))).toMatchInlineSnapshot(`"fa461720 3f3cd2e9 bf1e1564 af019c45"`);
		expect([...stream.normals(new Float32Array(4), 0)]).toMatchInlineSnapshot(`
			[
			  0.12169229984283447,
			  2.3289313316345215,
			  0.16009648144245148,
			  0.993111789226532,
			]
		`);
		expect(stream.uniform(1, 2)).toMatchInlineSnapshot(`0.7074900489714917`);
		expect([...stream.permutation(0, 8)]).toMatchInlineSnapshot(`
			[
			  7,
			  2,
			  1,
			  6,
			  3,
			  4,
			  0,
			  5,
			]
		`);
	});

	it('gives the same numbers however the elements are cut', () => {
		const cut = fc.record({ seed, step, start: fc.nat(30), length: fc.nat(9000), from: fc.nat(9000), size: fc.nat(9000) });
		fc.assert(
			fc.property(cut, ({ seed, step, start, length, from, size }) => {
				const stream = randomStream(seed, 'any');
				const low = Math.min(from, length);
				const high = Math.min(low + size, length);
				const check = <A extends Float32Array | Uint32Array>(fill: (out: A, step: number, offset: number) => A, make: (n: number) => A) => {
					const whole = fill(make(length), step, start);
					expect(fill(make(high - low), step, start + low)).toEqual(whole.slice(low, high));
				};
				check(stream.normals, (n) => new Float32Array(n));
				check(stream.uniforms, (n) => new Float32Array(n));
				check(stream.uint32s, (n) => new Uint32Array(n));
			}),
			{ numRuns: 60 },
		);
	});

	it('normal is the unrounded element of normals', () => {
		fc.assert(
			fc.property(seed, step, fc.nat(10_000), (seed, step, element) => {
				const stream = randomStream(seed, 'noise');
				const value = stream.normal(step, element);
				expect(stream.normals(new Float32Array(1), step, element)[0]).toBe(Math.fround(value));
			}),
		);
	});

	it('normals follow Box-Muller of their words to double precision', () => {
		const seed64 = 9n;
		const h = hashName('x');
		const key = philox4x32([Number(h & 0xffffffffn), Number(h >> 32n), 0, 0], [9, 0]);
		const stream = randomStream(seed64, 'x');
		for (let block = 0; block < 500; block++) {
			const words = philox4x32([block, 2, 77, 0], [key[0]!, key[1]!]);
			for (let lane = 0; lane < 4; lane++) {
				const pair = lane & 2;
				const r = Math.sqrt(-2 * Math.log((words[pair]! + 0.5) / 2 ** 32));
				const angle = (2 * Math.PI * words[pair + 1]!) / 2 ** 32;
				const expected = r * (lane % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
				expect(Math.abs(stream.normal(77, 4 * block + lane) - expected)).toBeLessThan(1e-14);
			}
		}
	});

	it('normals have the moments and the tails of a standard normal', () => {
		const n = 1 << 20;
		const values = randomStream(3, 'moments').normals(new Float32Array(n), 0);
		const moment = (k: number) => values.reduce((sum, x) => sum + x ** k, 0) / n;
		const sigma = 1 / Math.sqrt(n);
		expect(Math.abs(moment(1))).toBeLessThan(5 * sigma);
		expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.SQRT2 * sigma);
		expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15) * sigma);
		expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96) * sigma);
		const beyond = values.filter((x) => Math.abs(x) > 3).length / n;
		expect(Math.abs(beyond - 0.0026998)).toBeLessThan(5 * Math.sqrt(0.0027) * sigma);
	});

	it('neighbouring elements, steps, streams, seeds and kinds are uncorrelated', () => {
		const n = 1 << 16;
		const of = (seed: number, name: string, step: number) => randomStream(seed, name).normals(new Float32Array(n), step);
		const base = of(1, 'a', 0);
		const correlation = (other: ArrayLike<number>) => base.reduce((sum, x, i) => sum + x * other[i]!, 0) / Math.sqrt(n);
		const uniforms = randomStream(1, 'a').uniforms(new Float32Array(n), 0);
		const others = [base.slice(1), of(1, 'a', 1), of(1, 'b', 0), of(2, 'a', 0), uniforms.map((u) => (u - 0.5) * Math.sqrt(12))];
		for (const other of others) {
			expect(Math.abs(correlation(Float32Array.from({ length: n }, (_, i) => other[i] ?? 0)))).toBeLessThan(5);
		}
	});

	it('uniforms are in [0, 1) and flat', () => {
		const n = 1 << 18;
		const stream = randomStream(4, 'u');
		const single = Float64Array.from({ length: n }, (_, i) => stream.uniform(0, i));
		for (const values of [stream.uniforms(new Float32Array(n), 0), single]) {
			const counts = new Array<number>(64).fill(0);
			for (const u of values) counts[Math.floor(u * 64)]!++;
			expect(counts.length).toBe(64);
			const chi2 = counts.reduce((sum, c) => sum + (c - n / 64) ** 2 / (n / 64), 0);
			expect(chi2).toBeLessThan(63 + 6 * Math.sqrt(2 * 63));
		}
	});

	it('permutation holds every index once and differs between epochs', () => {
		fc.assert(
			fc.property(seed, step, fc.nat(6000), (seed, epoch, n) => {
				const order = randomStream(seed, 'shuffle').permutation(epoch, n);
				expect(order.slice().sort()).toEqual(Uint32Array.from({ length: n }, (_, i) => i));
			}),
		);
		const stream = randomStream(0, 'shuffle');
		expect(stream.permutation(0, 100)).toEqual(stream.permutation(0, 100));
		expect(stream.permutation(0, 100)).not.toEqual(stream.permutation(1, 100));
	});

	it('permutation makes every order equally likely', () => {
		const stream = randomStream(5, 'shuffle');
		const counts = new Map<string, number>();
		const draws = 24_000;
		for (let epoch = 0; epoch < draws; epoch++) {
			const order = stream.permutation(epoch, 4).join('');
			counts.set(order, (counts.get(order) ?? 0) + 1);
		}
		expect(counts.size).toBe(24);
		const chi2 = [...counts.values()].reduce((sum, c) => sum + (c - draws / 24) ** 2 / (draws / 24), 0);
		expect(chi2).toBeLessThan(23 + 6 * Math.sqrt(2 * 23));
	});

	it('names a bad seed, step, element or size', () => {
		const stream = randomStream(-1, 'noise');
		expect(stream.seed).toBe(2n ** 64n - 1n);
		expect(() => randomStream(0.5, 'noise')).toThrow(/random stream 'noise': bad seed/);
		expect(() => stream.normals(new Float32Array(1), -1)).toThrow(/bad step/);
		expect(() => stream.uniform(0, 1.25)).toThrow(/bad element/);
		expect(() => stream.uint32s(new Uint32Array(8), 0, 2 ** 34 - 4)).toThrow(/at most 2\^34/);
		expect(() => stream.permutation(0, -1)).toThrow(DiffusionPipeError);
	});
});
