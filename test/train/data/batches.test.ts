import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DiffusionPipeError } from '../../../src/core/errors.ts';
import { type BatchOptions, type BatchResources, batchMaker } from '../../../src/train/data/batches.ts';
import { openDataSet } from '../../../src/train/data/index.ts';
import type { DataSet } from '../../../src/train/data/types.ts';

/** Example i is the row [i, i + 1/4, i + 1/2]; `broken` ones cannot be loaded. */
function rows(size: number, broken: readonly number[] = [], loads: number[] = []): DataSet {
	return {
		name: 'rows',
		size,
		channels: 1,
		height: 1,
		width: 3,
		classes: undefined,
		licence: '',
		nameOf: String,
		async load(index) {
			loads.push(index);
			if (broken.includes(index)) throw new DiffusionPipeError('input', 'broken', { place: `row ${index}` });
			return { name: `row ${index}`, image: Float32Array.of(index, index + 0.25, index + 0.5), label: index, caption: `caption ${index}` };
		},
	};
}

const resources = (more: Partial<BatchResources> = {}): BatchResources => ({ cacheBytes: 1e6, decoders: 2, onBroken: () => {}, ...more });
const maker = (set: DataSet, options: Partial<BatchOptions> = {}, more: Partial<BatchResources> = {}): ReturnType<typeof batchMaker> =>
	batchMaker(set, { seed: 1, batchSize: 4, ...options }, resources(more));

test('a batch has all parts of its examples, in buffers of its own', async () => {
	const batch = await maker(rows(10))(0);
	expect(batch.step).toBe(0);
	for (let i = 0; i < 4; i++) {
		const label = batch.labels[i]!;
		expect([...batch.images.subarray(i * 3, i * 3 + 3)]).toEqual([label, label + 0.25, label + 0.5]);
		expect([batch.names[i], batch.captions[i]]).toEqual([`row ${label}`, `caption ${label}`]);
	}
	expect(batch.images.buffer.byteLength).toBe(48);
});

test('every epoch has each example once, in an order of its own, and batches run over its end', async () => {
	const make = maker(rows(10), { batchSize: 4 });
	const labels: number[] = [];
	for (let step = 0; step < 10; step++) labels.push(...(await make(step)).labels);
	const epochs = Array.from({ length: 4 }, (_, i) => labels.slice(i * 10, i * 10 + 10));
	for (const epoch of epochs) expect(epoch.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
	expect(new Set(epochs.map(String)).size).toBe(4);
});

test('a step gives the same batch whenever, and after whatever, it is asked for', async () => {
	await fc.assert(
		fc.asyncProperty(
			fc.record({
				size: fc.integer({ min: 1, max: 12 }),
				batchSize: fc.integer({ min: 1, max: 15 }),
				seed: fc.integer({ min: 0 }),
				flip: fc.boolean(),
				cacheBytes: fc.constantFrom(0, 40, 1e6),
				decoders: fc.integer({ min: 1, max: 4 }),
			}),
			fc.array(fc.integer({ min: 0, max: 11 }), { maxLength: 6 }),
			fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1, maxLength: 6 }),
			async ({ size, batchSize, seed, flip, cacheBytes, decoders }, brokenOnes, steps) => {
				const broken = brokenOnes.filter((index) => index !== 0);
				const make = maker(rows(size, broken), { seed, batchSize, flip }, { cacheBytes, decoders });
				for (const step of steps) {
					const fresh = maker(rows(size, broken), { seed, batchSize, flip }, { cacheBytes: 0, decoders: 1 });
					expect(await make(step)).toEqual(await fresh(step));
				}
			},
		),
		{ numRuns: 60 },
	);
});

test('a global batch cut differently has the same examples in the same order', async () => {
	const whole = maker(rows(50), { batchSize: 12 });
	const halves = maker(rows(50), { batchSize: 6 });
	expect([...(await whole(3)).labels]).toEqual([...(await halves(6)).labels, ...(await halves(7)).labels]);
	expect([...(await maker(rows(50), { seed: 2, batchSize: 12 })(3)).labels]).not.toEqual([...(await whole(3)).labels]);
});

test('about half of the images are mirrored when asked, and none otherwise', async () => {
	const ascending = async (flip: boolean): Promise<number> => {
		const { images, mirrored } = await maker(rows(200), { batchSize: 200, flip })(0);
		let count = 0;
		for (let i = 0; i < 200; i++) {
			const straight = images[i * 3]! < images[i * 3 + 2]!;
			expect(mirrored[i]).toBe(!straight);
			count += straight ? 1 : 0;
		}
		return count;
	};
	expect(await ascending(false)).toBe(200);
	const straight = await ascending(true);
	expect(straight).toBeGreaterThan(60);
	expect(straight).toBeLessThan(140);
});

test('mirroring does not spoil what is kept in memory', async () => {
	const loads: number[] = [];
	const make = maker(rows(3, [], loads), { batchSize: 3, flip: true });
	for (let step = 0; step < 20; step++) {
		const { images, labels } = await make(step);
		for (let i = 0; i < 3; i++)
			expect([...images.subarray(i * 3, i * 3 + 3)].sort()).toEqual([labels[i]!, labels[i]! + 0.25, labels[i]! + 0.5]);
	}
	expect(loads).toHaveLength(3);
});

describe('broken examples', () => {
	test('are replaced by the next good one of the permutation and reported once', async () => {
		const order = [...(await maker(rows(8), { batchSize: 8 })(0)).labels];
		const broken = [order[2]!, order[3]!, order[7]!];
		const reports: string[] = [];
		const make = maker(rows(8, broken), { batchSize: 8 }, { onBroken: (name, reason) => reports.push(`${name}: ${reason}`) });
		expect([...(await make(0)).labels]).toEqual([order[0], order[1], order[4], order[4], order[4], order[5], order[6], order[0]]);
		for (let step = 1; step < 5; step++) await make(step);
		expect(reports.sort()).toEqual(broken.map((index) => `row ${index}: row ${index}: broken`).sort());
	});

	test('all of them: an error, not an endless search', async () => {
		const make = maker(rows(5, [0, 1, 2, 3, 4]));
		await expect(make(0)).rejects.toThrow(/rows: not one image can be loaded\n.*5 broken/);
	});

	test('an image of the wrong size is one', async () => {
		const set: DataSet = {
			...rows(2),
			load: async (index) => ({ name: `n${index}`, image: new Float32Array(3 + index), label: 0, caption: '' }),
		};
		const reports: string[] = [];
		const batch = await maker(set, {}, { onBroken: (name, reason) => reports.push(name, reason) })(0);
		expect(new Set(batch.names)).toEqual(new Set(['n0']));
		expect(reports).toEqual(['n1', expect.stringMatching(/wrong size.*3 values.*4/s)]);
	});

	test('a failure of the machine is none: it ends the batch and is not held against the file', async () => {
		let failing = true;
		const set: DataSet = {
			...rows(4),
			async load(index) {
				if (failing) throw new DiffusionPipeError('engine', 'too many open files', { place: 'disk' });
				return rows(4).load(index);
			},
		};
		const make = maker(set);
		await expect(make(0)).rejects.toThrow(/too many open files/);
		failing = false;
		expect([...(await make(0)).labels].sort()).toEqual([0, 1, 2, 3]);
	});
});

test('memory is kept to its limit', async () => {
	const loads: number[] = [];
	const make = maker(rows(4, [], loads), { batchSize: 4 }, { cacheBytes: 2 * 12 });
	for (let step = 0; step < 3; step++) await make(step);
	expect(loads).toHaveLength(4 + 2 + 2);
});

test('an example is loaded once however often a batch has it', async () => {
	const loads: number[] = [];
	const batch = await maker(rows(1, [], loads), { batchSize: 9 }, { decoders: 4 })(0);
	expect([...batch.labels]).toEqual(Array(9).fill(0));
	expect(loads).toEqual([0]);
});

test('steps that are none and aborted batches are refused', async () => {
	await expect(maker(rows(3))(-1)).rejects.toThrow(/no such step/);
	await expect(maker(rows(3))(0.5)).rejects.toThrow(/no such step/);
	await expect(maker(rows(3), {}, { signal: AbortSignal.abort(new Error('closed')) })(0)).rejects.toThrow('closed');
});

test('the registry names the types it has', async () => {
	await expect(openDataSet({ type: 'minst' } as never)).rejects.toThrow(/data\.type.*\n.*mnist, emoji, folder\n.*"minst"\n {2}try: mnist/);
	await expect(openDataSet({} as never)).rejects.toThrow(/data\.type/);
	await expect(openDataSet({ type: 'folder', path: 'x', height: 8 } as never)).rejects.toThrow(/data\.width: is missing/);
	await expect(openDataSet({ type: 'folder', path: 'x', height: 8.5, width: 8 })).rejects.toThrow(/data\.height: has a wrong value/);
});
