import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type SimulationCosts, simulate } from '../../../src/engine/simulate/simulate.ts';
import { scheduleByName } from '../../../src/plan/schedules/index.ts';
import { oneFOneB } from '../../../src/plan/schedules/one-f-one-b.ts';
import type { WarmUp } from '../../../src/plan/schedules/types.ts';
import { bubbleRatio, busyShares, extentOf, ofIteration, type Span, type Timeline } from '../../../src/program/timeline.ts';
import { channelId, deviceId, graphId, groupId, type Instruction, type Program, slotId } from '../../../src/program/types.ts';
import { verifyProgram } from '../../../src/program/verify.ts';
import { edit, pipelineProgram } from '../../program/pipeline.ts';

/** Forward `f`, backward `b`, hop `c`; everything else is free. */
const costs = (f: number, b: number, c: number): SimulationCosts => ({
	runMs: (graph) => (graph.endsWith('forward') ? f : graph.endsWith('backward') ? b : 0),
	transferMs: () => c,
	allReduceMs: () => 0,
	updateMs: () => 0,
});

const chain = (stages: number, microBatches: number, warmup: WarmUp = 'usual', name = '1f1b') =>
	pipelineProgram({ schedule: scheduleByName(name)({ stages, microBatches, warmup }) });

const spansOf = (timeline: Timeline, device: number, kind: Span['kind']) =>
	timeline.devices[device]!.spans.filter((span) => span.kind === kind).map(({ name, start, end }) => [name, start, end]);

describe('1F1B', () => {
	test.each([
		[4, 4, 1, 31, 27],
		[4, 8, 1, 49, 39],
		[8, 16, 0.25, 79, 72.5],
		[8, 16, 1, 109, 83],
	])('S=%i, M=%i, f=1, b=2, hop %d: %d ms with the usual warm-up, %d with the deep one', (stages, microBatches, hop, usual, deep) => {
		expect(extentOf(simulate(chain(stages, microBatches), costs(1, 2, hop)))).toEqual({ start: 0, end: usual });
		expect(extentOf(simulate(chain(stages, microBatches, 'deep'), costs(1, 2, hop)))).toEqual({ start: 0, end: deep });
	});

	test('without hops the bubble ratio of balanced stages is (S-1)/(M+S-1), as with gpipe', () => {
		const cases = fc.record({ S: fc.integer({ min: 1, max: 6 }), M: fc.integer({ min: 1, max: 10 }), b: fc.integer({ min: 1, max: 4 }) });
		fc.assert(
			fc.property(cases, fc.constantFrom('gpipe', '1f1b'), ({ S, M, b }, name) => {
				const timeline = simulate(chain(S, M, 'usual', name), costs(1, b, 0));
				expect(extentOf(timeline).end).toBe((M + S - 1) * (1 + b));
				expect(bubbleRatio(timeline)).toBeCloseTo((S - 1) / (M + S - 1), 12);
				for (const share of busyShares(timeline)) expect(share).toBeCloseTo(M / (M + S - 1), 12);
			}),
			{ numRuns: 40 },
		);
	});

	test('the deep warm-up keeps to (M + 2S - 2) max(f + b, 2c), the formula it is made for', () => {
		const cases = fc.record({ S: fc.integer({ min: 1, max: 5 }), M: fc.integer({ min: 1, max: 10 }), c: fc.integer({ min: 0, max: 3 }) });
		fc.assert(
			fc.property(cases, ({ S, M, c }) => {
				const { end } = extentOf(simulate(chain(S, M, 'deep'), costs(1, 2, c)));
				expect(end).toBeLessThanOrEqual((M + 2 * S - 2) * Math.max(3, 2 * c));
			}),
			{ numRuns: 60 },
		);
	});
});

describe('what a device does when', () => {
	const f32 = (...shape: number[]) => ({ dtype: 'float32', shape }) as const;
	const feed = (slot: string, to = 1): Instruction => ({ op: 'feed', slot: slotId(slot), source: 'x', from: 0, to });
	const run = (slot: string): Instruction => ({
		op: 'run',
		graph: graphId('g'),
		inputs: [slotId(slot)],
		outputs: [],
		label: `run ${slot}`,
	});
	const drop = (...names: string[]): Instruction => ({ op: 'drop', slots: names.map(slotId) });
	const send = (slot: string, channel = 'c'): Instruction => ({
		op: 'send',
		peer: deviceId(1),
		channel: channelId(channel),
		slot: slotId(slot),
	});
	const recv = (slot: string, channel = 'c'): Instruction => ({
		op: 'recv',
		peer: deviceId(0),
		channel: channelId(channel),
		slot: slotId(slot),
	});
	const program = (...iterations: Instruction[][]): Program => ({
		version: 1,
		name: 'test',
		devices: iterations.map((iteration, d) => ({ device: deviceId(d), banks: [], residents: [], prologue: [], iteration, epilogue: [] })),
		graphs: { g: { inputs: [f32(1, 2)], outputs: [], workspaceBytes: 0 } },
		groups: { all: iterations.map((_, d) => deviceId(d)) },
		sources: { x: { ...f32(4, 2), perSample: true } },
	});
	const priced: SimulationCosts = {
		runMs: () => 4,
		transferMs: (bytes) => bytes,
		allReduceMs: (bytes, devices) => bytes * devices.length,
		updateMs: (elements) => elements,
		feedMs: (bytes) => bytes / 8,
		fetchMs: (bytes) => bytes / 4,
	};

	test('sends share a link one after the other and leave the sender free; a receive waits for its own message', () => {
		const timeline = simulate(
			program(
				[feed('a'), feed('b'), feed('c'), send('a'), send('b', 'd'), run('c'), drop('c')],
				[recv('b', 'd'), recv('a'), run('a'), drop('a', 'b')],
			),
			priced,
		);
		// Three feeds of 8 bytes take 1 ms each, a transfer of 8 bytes takes 8.
		expect(spansOf(timeline, 0, 'feed')).toEqual([0, 1, 2].map((t) => ['feed x', t, t + 1]));
		expect(spansOf(timeline, 0, 'send')).toEqual([
			['send a', 3, 11],
			['send b', 11, 19],
		]);
		expect(spansOf(timeline, 0, 'run')).toEqual([['run c', 3, 7]]);
		expect(spansOf(timeline, 1, 'recv')).toEqual([
			['recv b', 0, 19],
			['recv a', 19, 19],
		]);
		expect(spansOf(timeline, 1, 'run')).toEqual([['run a', 19, 23]]);
		const messages = (device: number, kind: string) => timeline.devices[device]!.spans.filter((s) => s.kind === kind).map((s) => s.message);
		expect(messages(0, 'send')).toEqual(['c 0', 'd 0']);
		expect(messages(1, 'recv')).toEqual(['d 0', 'c 0']);
	});

	test('opposite directions and other pairs do not share a link', () => {
		const to = (peer: number, channel: string, slot: string): Instruction => ({
			op: 'send',
			peer: deviceId(peer),
			channel: channelId(channel),
			slot: slotId(slot),
		});
		const from = (peer: number, channel: string, slot: string): Instruction => ({
			op: 'recv',
			peer: deviceId(peer),
			channel: channelId(channel),
			slot: slotId(slot),
		});
		const timeline = simulate(
			program(
				[feed('a'), feed('b'), to(1, '01', 'a'), to(2, '02', 'b'), from(1, '10', 'c'), drop('c')],
				[feed('c'), feed('d'), to(0, '10', 'c'), from(0, '01', 'a'), drop('a', 'd')],
				[from(0, '02', 'b'), drop('b')],
			),
			priced,
		);
		expect(timeline.devices.flatMap((_, d) => spansOf(timeline, d, 'send').map(([, start]) => start))).toEqual([2, 2, 2]);
	});

	test('a collective begins with its last device; gathers cost half unless told', () => {
		const gather: Instruction = { op: 'allGather', group: groupId('all'), slot: slotId('a'), output: slotId('all'), axis: 0 };
		const reduce: Instruction = { op: 'allReduce', group: groupId('all'), slots: [slotId('a')] };
		const timeline = simulate(
			program([feed('a'), run('a'), reduce, gather, drop('a', 'all')], [feed('a'), reduce, gather, drop('a', 'all')]),
			priced,
		);
		expect(spansOf(timeline, 1, 'idle')).toEqual([['wait for all', 1, 5]]);
		for (const device of [0, 1]) {
			// 8 bytes over 2 devices; then 16 joined bytes over 2 devices, halved.
			expect(spansOf(timeline, device, 'allReduce')).toEqual([['allReduce all', 5, 21]]);
			expect(spansOf(timeline, device, 'allGather')).toEqual([['allGather all', 21, 37]]);
		}
		const told = simulate(program([feed('a'), gather, drop('a', 'all')], [feed('a'), gather, drop('a', 'all')]), {
			...priced,
			allGatherMs: () => 3,
		});
		expect(spansOf(told, 1, 'allGather')).toEqual([['allGather all', 1, 4]]);
	});

	test('updates cost by elements, fetches by bytes, transfers by their ends', () => {
		const timeline = simulate(chain(2, 1), {
			...costs(1, 2, 0),
			updateMs: (elements) => elements,
			fetchMs: (bytes) => bytes,
			transferMs: (_, from, to) => (from < to ? 10 : 20),
		});
		expect(spansOf(timeline, 1, 'fetch')).toEqual([['fetch loss', 12, 16]]);
		expect(spansOf(timeline, 1, 'update')).toEqual([['update bank', 18, 24]]);
		expect(spansOf(timeline, 0, 'recv')).toEqual([['recv g1#0', 1, 38]]);
	});

	test('runs carry the action of the schedule, or their label', () => {
		const timeline = simulate(chain(1, 2), costs(1, 2, 0));
		const runs = timeline.devices[0]!.spans.filter(({ kind }) => kind === 'run');
		expect(runs.map(({ name, action }) => [name, action?.kind])).toEqual([
			['0F0', 'F'],
			['0B0', 'B'],
			['0F1', 'F'],
			['0B1', 'B'],
			['norm', undefined],
		]);
	});

	test('iterations follow each other without a barrier, prologue and epilogue around them', () => {
		const base = program([feed('a'), send('a')], [recv('a'), run('a'), drop('a')]);
		const whole = edit(
			edit(base, 1, () => [feed('p'), run('p'), drop('p')], 'prologue'),
			0,
			() => [feed('e'), run('e'), drop('e')],
			'epilogue',
		);
		const timeline = simulate(whole, { ...priced, transferMs: () => 1 }, { iterations: 3 });
		expect(spansOf(timeline, 1, 'run')).toEqual([
			['run p', 1, 5],
			['run a', 5, 9],
			['run a', 9, 13],
			['run a', 13, 17],
		]);
		expect(spansOf(timeline, 0, 'run')).toEqual([['run e', 4, 8]]);
		expect(spansOf(ofIteration(timeline, 1), 1, 'run')).toEqual([['run a', 9, 13]]);
		expect(timeline.devices[1]!.spans.filter(({ kind }) => kind === 'run').map(({ iteration }) => iteration)).toEqual([undefined, 0, 1, 2]);
	});
});

describe('programs and costs', () => {
	test('a verified program gives the same timeline', () => {
		const program = chain(3, 4);
		expect(simulate(verifyProgram(program), costs(1, 2, 1))).toEqual(simulate(program, costs(1, 2, 1)));
	});

	test('a program that does not verify is refused', () => {
		expect(() =>
			simulate(
				edit(chain(2, 2), 1, (i) => i.slice(0, -1)),
				costs(1, 2, 1),
			),
		).toThrow('still set at the end of the iteration');
	});

	test('what is no time is refused at its instruction', () => {
		expect(() => simulate(chain(2, 1), costs(Number.NaN, 1, 1))).toThrow(
			'simulation of device 0, iteration 2 (run 0F0 stage0.forward (h0#0, param:w) -> (h1#0, saved:h#0)): the cost is not a time\n  expected: milliseconds, finite and not negative\n  found: NaN',
		);
		expect(() => simulate(chain(2, 1), costs(1, 1, -1))).toThrow('(send h1#0 to 1 over 0>1): the cost is not a time');
	});

	test('the schedule alone decides: times scale with costs', () => {
		const program = pipelineProgram({ schedule: oneFOneB({ stages: 3, microBatches: 5 }), replicas: 2 });
		const { end } = extentOf(simulate(program, { ...costs(1, 2, 1), allReduceMs: () => 5 }));
		expect(extentOf(simulate(program, { ...costs(3, 6, 3), allReduceMs: () => 15 })).end).toBe(3 * end);
	});
});
