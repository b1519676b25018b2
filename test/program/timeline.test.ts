import { describe, expect, test } from 'vitest';
import { simulate } from '../../src/engine/simulate/simulate.ts';
import { oneFOneB } from '../../src/plan/schedules/one-f-one-b.ts';
import { toChromeTrace } from '../../src/program/chrome-trace.ts';
import {
	bubbleRatio,
	busyIntervals,
	busyShares,
	type DeviceTimeline,
	extentOf,
	idleIntervals,
	type Span,
	type SpanKind,
	type Timeline,
} from '../../src/program/timeline.ts';
import { renderTimeline, timelineColumns } from '../../src/program/timeline-text.ts';
import { deviceId } from '../../src/program/types.ts';
import { pipelineProgram } from './pipeline.ts';

const span = (kind: SpanKind, start: number, end: number, more: Partial<Span> = {}): Span => ({ name: kind, kind, start, end, ...more });
const device = (id: number, ...spans: Span[]): DeviceTimeline => ({ device: deviceId(id), spans });

const pipeline: Timeline = simulate(pipelineProgram({ schedule: oneFOneB({ stages: 3, microBatches: 4 }) }), {
	runMs: (graph) => (graph.endsWith('forward') ? 1 : graph.endsWith('backward') ? 2 : 0),
	transferMs: () => 0.5,
	allReduceMs: () => 0,
	updateMs: () => 1,
});

describe('measures', () => {
	const mixed = device(
		0,
		span('recv', 0, 2),
		span('run', 2, 4),
		span('send', 4, 9),
		span('allReduce', 4, 5),
		span('idle', 5, 6),
		span('fetch', 7, 8),
		span('run', 7.5, 8.5),
	);

	test('work is joined, transfers and waits are none', () => {
		expect(busyIntervals(mixed)).toEqual([
			{ start: 2, end: 5 },
			{ start: 7, end: 8.5 },
		]);
	});

	test('idle time is what is left of an interval', () => {
		expect(idleIntervals(mixed, { start: 0, end: 10 })).toEqual([
			{ start: 0, end: 2 },
			{ start: 5, end: 7 },
			{ start: 8.5, end: 10 },
		]);
		expect(idleIntervals(mixed, { start: 3, end: 6 })).toEqual([{ start: 5, end: 6 }]);
		expect(idleIntervals(mixed, { start: 3, end: 4 })).toEqual([]);
		expect(idleIntervals(device(1), { start: 3, end: 4 })).toEqual([{ start: 3, end: 4 }]);
	});

	test('shares count against the extent of all devices', () => {
		const timeline = { devices: [mixed, device(1, span('run', -1, 0))] };
		expect(extentOf(timeline)).toEqual({ start: -1, end: 9 });
		expect(busyShares(timeline)).toEqual([0.45, expect.closeTo(0.1, 12)]);
		expect(bubbleRatio(timeline)).toBeCloseTo(1 - 0.55 / 2, 12);
	});

	test('nothing is neither busy nor idle', () => {
		const empty = { devices: [device(0)] };
		expect([extentOf(empty), busyShares(empty), bubbleRatio(empty), bubbleRatio({ devices: [] })]).toEqual([
			{ start: 0, end: 0 },
			[0],
			0,
			0,
		]);
	});
});

describe('text', () => {
	test('a pipeline', () => {
		expect(renderTimeline(pipeline, 72)).toMatchInlineSnapshot(`
			"device 0 |000111222...................aaaaaa3333bbbbbb......cccccc.......dddddd+++|  57 % busy
			device 1 |.....000111.........aaaaaaa222bbbbbb...333ccccccc......dddddd+++........|  57 % busy
			device 2 |.........0000aaaaaa111bbbbbb...222ccccccc...333dddddd+++................|  57 % busy
			          0 ms                                                               23 ms
			0-9 forward, a-z backward, + optimiser, . idle
			"
		`);
	});

	test('each column shows the work that fills most of it, or a wait', () => {
		const timeline = {
			devices: [
				device(
					0,
					span('feed', 0, 1),
					span('run', 1, 2, { action: { stage: 0, kind: 'F', micro: 12 } }),
					span('run', 2, 3, { action: { stage: 0, kind: 'I', micro: 27 } }),
					span('run', 3, 4, { action: { stage: 0, kind: 'W', micro: 3 } }),
					span('run', 4, 5),
					span('allGather', 5, 6),
					span('update', 6, 7),
					span('fetch', 7, 8),
					span('run', 8.7, 9),
					span('run', 9, 9.4, { action: { stage: 0, kind: 'F', micro: 1 } }),
					span('run', 9.4, 10, { action: { stage: 0, kind: 'F', micro: 2 } }),
				),
			],
		};
		expect(renderTimeline(timeline, 10).split('\n').slice(0, 2)).toEqual(['device 0 |<2bD*=+>.2|  93 % busy', '          0 ms 10 ms']);
	});

	test('frozen components have marks of their own; what goes on beside work shows where the device waits', () => {
		const timeline = {
			devices: [
				device(
					0,
					span('frozen', 0, 2, { part: 'vae' }),
					span('frozen', 2, 4, { part: 'clip' }),
					span('allReduce', 3, 6, { beside: true }),
					span('update', 7, 8),
				),
			],
		};
		expect(renderTimeline(timeline, 8, { label: (id) => `rank ${id}` })).toBe(
			'rank 0 |##%%==.+|  63 % busy\n        0 ms 8 ms\n# frozen vae, % frozen clip, + optimiser, = sum of gradients, . idle\n',
		);
	});

	test('a second backbone has marks of its own', () => {
		const run = (kind: 'F' | 'B', micro: number, start: number, part: string) =>
			span('run', start, start + 1, { part, action: { stage: 0, kind, micro } });
		const timeline = { devices: [device(0, run('F', 11, 0, 'a'), run('F', 11, 1, 'b'), run('B', 2, 2, 'a'), run('B', 2, 3, 'b'))] };
		const [row, , legend] = renderTimeline(timeline, 4).split('\n');
		expect(row).toBe('device 0 |1¹cᶜ| 100 % busy');
		expect(legend).toBe('0-9 a forward, ⁰-⁹ b forward, a-z a backward, ᵃ-ᶻ b backward, . idle');
	});

	test('colour changes nothing but colours, and is per look', () => {
		const plain = renderTimeline(pipeline, 40);
		const painted = renderTimeline(pipeline, 40, { colour: true });
		expect(painted.replace(/\p{Cc}\[[\d;]*m/gu, '')).toBe(plain);
		const [row] = painted.split('\n');
		const colours = [...row!.matchAll(/48;5;(\d+);38;5;(\d+)m([\w+]+)/g)].map(([, fill, , text]) => [fill, text]);
		expect(new Set(colours.filter(([, text]) => /^\d+$/.test(text!)).map(([fill]) => fill)).size).toBe(1);
		expect(new Set(colours.map(([fill]) => fill)).size).toBe(3);
	});

	test('names cannot act on the terminal', () => {
		const timeline = { devices: [device(0, span('frozen', 0, 1, { part: 'a\u001b[2Jb' }))] };
		expect(renderTimeline(timeline, 4, { label: () => '\u0007x' })).toBe(
			'\ufffdx |####| 100 % busy\n    0 ms 1 ms\n# frozen a\ufffd[2Jb, . idle\n',
		);
	});

	test('columns are what labels leave of a terminal', () => {
		const [row] = renderTimeline(pipeline, timelineColumns(80, 'device 0'.length)).split('\n');
		expect(row).toHaveLength(80);
		expect(timelineColumns(10, 8)).toBe(20);
	});

	test('an empty timeline has rows of waiting', () => {
		expect(renderTimeline({ devices: [device(3)] }, 4)).toContain('device 3 |....|   0 % busy');
	});
});

describe('Chrome trace', () => {
	const trace = toChromeTrace([
		{ name: 'predicted', timeline: pipeline },
		{ name: 'measured', timeline: { devices: [device(2, span('run', 0.1, 0.1 + 0.2))] } },
	]);
	const of = (ph: string) => trace.traceEvents.filter((event) => event.ph === ph);

	test('survives JSON and is in milliseconds', () => {
		expect(JSON.parse(JSON.stringify(trace))).toEqual(trace);
		expect(trace.displayTimeUnit).toBe('ms');
	});

	test('one process per timeline, threads for work and transfers', () => {
		expect(
			of('M')
				.filter(({ name }) => name === 'process_name')
				.map(({ pid, args }) => [pid, args!.name]),
		).toEqual([
			[0, 'predicted'],
			[1, 'measured'],
		]);
		expect(
			of('M')
				.filter(({ name }) => name === 'thread_name')
				.map(({ pid, tid, args }) => [pid, tid, args!.name]),
		).toEqual([
			[0, 0, 'device 0'],
			[0, 1, 'device 0 transfers'],
			[0, 2, 'device 1'],
			[0, 3, 'device 1 transfers'],
			[0, 4, 'device 2'],
			[0, 5, 'device 2 transfers'],
			[1, 4, 'device 2'],
		]);
	});

	test('spans in microseconds with their action', () => {
		expect(of('X')).toHaveLength(pipeline.devices.reduce((sum, { spans }) => sum + spans.length, 1));
		expect(of('X').find(({ name }) => name === '1B2')).toMatchObject({
			pid: 0,
			tid: 2,
			dur: 2000,
			cat: 'run',
			args: { stage: 1, kind: 'B', micro: 2 },
		});
		expect(of('X').at(-1)).toEqual({ name: 'run', ph: 'X', pid: 1, tid: 4, ts: 100, dur: 200, cat: 'run', args: {} });
	});

	test('an arrow from every send to its receive', () => {
		const ends = new Map(of('f').map((event) => [event.id, event]));
		expect(ends.size).toBe(2 * 2 * 4);
		expect(of('s')).toHaveLength(ends.size);
		for (const { id, tid, ts, cat, name } of of('s')) {
			const end = ends.get(id)!;
			expect([end.cat, end.name, end.bp]).toEqual([cat, name, 'e']);
			expect(Math.abs(Math.floor(end.tid / 2) - Math.floor(tid / 2))).toBe(1);
			expect([tid % 2, end.tid % 2]).toEqual([1, 0]);
			expect(end.ts!).toBeGreaterThanOrEqual(ts! + 500);
		}
	});
});
