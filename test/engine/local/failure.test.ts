/** @file Whatever goes wrong on a device ends the run with one clear error, hangs nothing, and leaves the process able to start again. */
import { describe, expect, it } from 'vitest';
import type { DiffusionPipeError } from '../../../src/core/errors.ts';
import { sizeOf, type Tensor, tensor } from '../../../src/core/tensor.ts';
import { createLocalEngine, type LocalEngine } from '../../../src/engine/local/engine.ts';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import type { Graph, Value } from '../../../src/graph/types.ts';
import { type Compiled, signatureOf } from '../../../src/program/lower.ts';
import { channelId, type DeviceProgram, deviceId, graphId, type Instruction, type Program, slotId } from '../../../src/program/types.ts';
import { verifyProgram } from '../../../src/program/verify.ts';
import { chainFeeds, mixedChain } from '../chains.ts';
import { compile, layout } from '../suite.ts';

const accumulateOnly = { moments: 0, hyperSize: 0 };
const pipeline = compile(mixedChain, layout([2], '1f1b', 1, 4), accumulateOnly);
const feeds = chainFeeds(mixedChain, 8);
const badFeeds = { ...feeds, label: tensor('int64', [8], [0, 1, 2, 3, 4, 99, 0, 0]) };

/** The error of a promise that must fail within `limit` ms. */
async function errorOf(promise: Promise<unknown>, limit = 5000): Promise<Error> {
	const start = performance.now();
	const error = await promise.then(
		() => undefined,
		(e: unknown) => e,
	);
	expect(performance.now() - start).toBeLessThan(limit);
	expect(error).toBeInstanceOf(Error);
	return error as Error;
}

/** Runs the healthy pipeline in a new engine. */
async function startsAgain(): Promise<void> {
	const engine = await createLocalEngine(pipeline);
	const { fetched } = await engine.run('iteration', feeds);
	expect(fetched.get('loss')!.shape).toEqual([8]);
	await engine.close();
}

/** Device 0 computes `body` of x and sends every result to device 1, which runs `last` on the first before it receives the others. */
function twoDevices(shape: readonly number[], body: (g: GraphBuilder, x: Value) => Value, last = body, messages = 1): Compiled {
	const build = (name: string, f: typeof body): Graph => {
		const g = createBuilder(name);
		return g.finish([f(g, g.input('x', 'float32', shape))]);
	};
	const graphs = new Map([
		[graphId('first'), build('first', body)],
		[graphId('second'), build('second', last)],
	]);
	const channel = channelId('0>1');
	const each = <T>(f: (m: number) => readonly T[]) => Array.from({ length: messages }, (_, m) => f(m)).flat();
	const y = (m: number) => slotId(`y#${m}`);
	const device = (d: number, iteration: Instruction[]): DeviceProgram => ({
		device: deviceId(d),
		banks: [],
		residents: [],
		prologue: [],
		iteration,
		epilogue: [],
	});
	const program: Program = {
		version: 1,
		name: 'two devices',
		devices: [
			device(0, [
				{ op: 'feed', slot: slotId('x'), source: 'x', from: 0, to: 0 },
				...each<Instruction>((m) => [
					{ op: 'run', graph: graphId('first'), inputs: [slotId('x')], outputs: [y(m)], label: `first ${m}` },
					{ op: 'send', peer: deviceId(1), channel, slot: y(m) },
				]),
				{ op: 'drop', slots: [slotId('x')] },
			]),
			device(1, [
				{ op: 'recv', peer: deviceId(0), channel, slot: y(0) },
				{ op: 'run', graph: graphId('second'), inputs: [y(0)], outputs: [slotId('z')], label: 'second' },
				{ op: 'drop', slots: [slotId('z'), y(0)] },
				...each<Instruction>((m) =>
					m === 0
						? []
						: [
								{ op: 'recv', peer: deviceId(0), channel, slot: y(m) },
								{ op: 'drop', slots: [y(m)] },
							],
				),
			]),
		],
		graphs: Object.fromEntries([...graphs].map(([id, graph]) => [id, signatureOf(graph)])),
		groups: {},
		sources: { x: { dtype: 'float32', shape, perSample: false } },
	};
	verifyProgram(program);
	return { program, graphs, banks: [] };
}

const zeros = (shape: readonly number[]): Tensor => ({ dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)) });
const square = [512, 512];
/** Some seconds of matrix products. */
const slow = (g: GraphBuilder, x: Value) => Array.from({ length: 200 }).reduce<Value>((h) => g.matMul(h, x), x);
const quick = (g: GraphBuilder, x: Value) => g.neg(x);

describe('a device that fails', () => {
	it('ends the run with its own error, which later calls give at once', async () => {
		const engine = await createLocalEngine(pipeline);
		await engine.run('iteration', feeds);
		const error = await errorOf(engine.run('iteration', badFeeds));
		expect(error.message).toMatch(
			/^device 1, iteration \d+ \(run 1F2 \(stage1\.forward\)\): layer three\.table, Gather: indices element out of data bounds, idx=99/,
		);
		expect(error).toMatchObject({
			kind: 'engine',
			parts: { place: expect.stringMatching(/^device 1, iteration \d+ \(run 1F2 \(stage1\.forward\)\)$/) },
		});
		expect(await errorOf(engine.run('iteration', feeds), 50)).toBe(error);
		await engine.close();
		await engine.close();
		await startsAgain();
	});

	it('is named also when replicas wait for it in a collective', async () => {
		const engine = await createLocalEngine(compile(mixedChain, layout([1, 3], '1f1b', 2, 2), accumulateOnly));
		// Sample 5 belongs to the second replica, whose last stage is device 5.
		const error = await errorOf(engine.run('iteration', badFeeds));
		expect(error.message).toMatch(/^device 5, iteration \d+ \(run 2F\d \(stage2\.forward\)\): layer three\.table, Gather/);
		await engine.close();
		await startsAgain();
	});

	it('says how much memory it asked for', async () => {
		const huge = (g: GraphBuilder, x: Value) =>
			g.scope('blocks.3.attn', () => g.add(x, g.reduceSum(g.expand(x, [2 ** 25, 2 ** 25]), [0, 1])));
		const engine = await createLocalEngine(twoDevices([1, 1], huge, quick));
		const error = await errorOf(engine.run('iteration', { x: zeros([1, 1]) }));
		expect(error.message).toMatch(/^device 0, iteration 1 \(run first 0 \(first\)\): layer blocks\.3\.attn, Expand: out of memory\n/);
		expect((error as DiffusionPipeError).parts).toEqual({
			place: 'device 0, iteration 1 (run first 0 (first))',
			found: `it asked for ${2 ** 52} bytes`,
			hint: 'smaller micro-batches, more stages, or recompute',
		});
		await engine.close();
		await startsAgain();
	});

	it('gives back what its neighbours had sent', async () => {
		const shape = [1024, 1024];
		// Slow enough for device 0 to have sent everything.
		const fails = (g: GraphBuilder, x: Value) =>
			g.gather(x, g.cast(g.add(g.reduceMax(g.matMul(g.matMul(x, x), x), [0, 1], false), 5000), 'int64'));
		const compiled = twoDevices(shape, quick, fails, 8);
		const once = async () => {
			const engine = await createLocalEngine(compiled);
			expect((await errorOf(engine.run('iteration', { x: zeros(shape) }))).message).toMatch(/^device 1, iteration 1 .*Gather/);
			await engine.close();
		};
		for (let i = 0; i < 3; i++) await once();
		const before = process.memoryUsage().rss;
		// 28 MB are in the channel each time, and 8 in slots.
		for (let i = 0; i < 12; i++) await once();
		expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(100);
	});
});

describe('a thread that dies', () => {
	const engineThatDies = async (during: (engine: LocalEngine) => Promise<unknown>) => {
		const engine = await createLocalEngine(twoDevices(square, quick, slow));
		const error = await errorOf(during(engine), 20_000);
		expect(error.message).toMatch(/^device \d: the thread ended unexpectedly/);
		expect(await errorOf(engine.run('iteration', { x: zeros(square) }), 50)).toBe(error);
		await engine.close();
		await startsAgain();
	};

	it('while it computes', async () => {
		await engineThatDies(async (engine) => {
			const run = engine.run('iteration', { x: zeros(square) });
			setTimeout(() => void engine.worker(deviceId(1)).terminate(), 30);
			await run;
		});
	});

	it('while another waits for it', async () => {
		const engine = await createLocalEngine(twoDevices(square, slow, quick));
		const run = errorOf(engine.run('iteration', { x: zeros(square) }), 20_000);
		setTimeout(() => void engine.worker(deviceId(0)).terminate(), 30);
		expect((await run).message).toMatch(/^device 0: the thread ended unexpectedly/);
		await engine.close();
	});

	it('between two runs', async () => {
		await engineThatDies(async (engine) => {
			await engine.worker(deviceId(0)).terminate();
			await engine.run('iteration', { x: zeros(square) });
		});
	});
});

describe('feeds', () => {
	it.each<[string, Record<string, Tensor>, RegExp]>([
		[
			'missing',
			{ x: feeds.x!, label: feeds.label! },
			/^source target: a feed does not fit\n {2}expected: float32\[8,6\]\n {2}found: nothing/,
		],
		['of another shape', { ...feeds, x: zeros([4, 6]) }, /^source x: .*\n {2}expected: float32\[8,6\]\n {2}found: float32\[4,6\]/],
		['of another type', { ...feeds, label: zeros([8]) }, /^source label: .*\n {2}expected: int64\[8\]\n {2}found: float32\[8\]/],
		[
			'shorter than their shape says',
			{ ...feeds, x: { dtype: 'float32', shape: [8, 6], data: new Float32Array(7) } },
			/^source x: a feed has too few elements\n {2}expected: 192 bytes for float32\[8,6\]\n {2}found: 28/,
		],
	])('%s are refused before anything runs', async (_, given, message) => {
		const engine = await createLocalEngine(pipeline);
		expect((await errorOf(engine.run('iteration', given), 500)).message).toMatch(message);
		await engine.run('iteration', feeds);
		await engine.close();
	});
});

describe('the engine', () => {
	it('does not start with a graph that ONNX Runtime refuses, and says why', async () => {
		// ONNX allows Erf of float64, but there is no kernel for it.
		const double = (g: GraphBuilder, x: Value) => g.scope('up.1', () => g.cast(g.erf(g.cast(x, 'float64')), 'float32'));
		const error = await errorOf(createLocalEngine(twoDevices([4], quick, double)));
		expect(error.message).toMatch(/^device 1, graph second: Could not find an implementation for Erf\S* node with name 'up\.1\/Erf/);
		await startsAgain();
	});

	it('does not start without a graph that the program names', async () => {
		const { program, graphs } = twoDevices([4], quick);
		const started = createLocalEngine({ program, graphs: new Map([...graphs].filter(([id]) => id !== graphId('first'))) });
		expect((await errorOf(started)).message).toMatch(/^device 0, graph first: is not there/);
	});

	it('does not sum what is not float32', async () => {
		const iteration: Instruction[] = [
			{ op: 'feed', slot: slotId('n'), source: 'n', from: 0, to: 0 },
			{ op: 'allReduce', group: 'all' as never, slots: [slotId('n')] },
			{ op: 'drop', slots: [slotId('n')] },
		];
		const program: Program = {
			version: 1,
			name: 'sum of integers',
			devices: [0, 1].map((d) => ({ device: deviceId(d), banks: [], residents: [], prologue: [], iteration, epilogue: [] })),
			graphs: {},
			groups: { all: [deviceId(0), deviceId(1)] },
			sources: { n: { dtype: 'int64', shape: [2], perSample: false } },
		};
		const engine = await createLocalEngine({ program, graphs: new Map() });
		const error = await errorOf(engine.run('iteration', { n: tensor('int64', [2], [1, 2]) }));
		expect(error.message).toMatch(/^device \d, iteration 1 .*only float32 slots are summed\n {2}expected: float32\n {2}found: int64/);
		expect((error as DiffusionPipeError).parts).toMatchObject({ expected: 'float32', found: expect.stringMatching(/^int64/) });
		await engine.close();
	});

	it('runs one thing at a time', async () => {
		const engine = await createLocalEngine(pipeline);
		const first = engine.run('iteration', feeds);
		expect((await errorOf(engine.run('iteration', feeds), 500)).message).toMatch(/a run is under way/);
		await first;
		await engine.close();
		expect((await errorOf(engine.run('iteration', feeds), 50)).message).toMatch(/the engine is closed/);
	});

	it('can be closed during a run, which then rejects', async () => {
		const engine = await createLocalEngine(twoDevices(square, slow, slow));
		const run = errorOf(engine.run('iteration', { x: zeros(square) }), 20_000);
		setTimeout(() => void engine.close(), 30);
		expect((await run).message).toMatch(/the engine is closed/);
		await engine.close();
		await startsAgain();
	});
});
