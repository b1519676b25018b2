import { describe, expect, test } from 'vitest';
import { simulatePipeline } from '../../src/plan/pipeline/simulate.ts';
import { toChromeTrace } from '../../src/program/chrome-trace.ts';
import { pipelineDevices, planTimeline } from '../../src/program/plan-timeline.ts';
import { bubbleRatio, extentOf, type Span } from '../../src/program/timeline.ts';
import { sampleResult } from '../helpers/plans.ts';

const spansOf = (result: Parameters<typeof planTimeline>[0], device: number): readonly Span[] =>
	planTimeline(result).devices.find((d) => d.device === device)!.spans;

describe('the devices of a pipeline', () => {
	test('are those of the first pipeline, rank by rank', () => {
		const { plan } = sampleResult({ stages: 2, replicas: 2, pipelines: 2 });
		expect(pipelineDevices(plan)).toEqual([
			{ device: 0, rank: 0, replica: 0, stages: [0] },
			{ device: 1, rank: 0, replica: 1, stages: [0] },
			{ device: 2, rank: 1, replica: 0, stages: [1] },
			{ device: 3, rank: 1, replica: 1, stages: [1] },
		]);
	});

	test('keep their numbers where copies of a stage stand side by side', () => {
		const { plan } = sampleResult({ stages: 2, pipelines: 2 });
		const stages = plan.stages.map((stage, i) => ({ ...stage, devices: [2 * i, 2 * i + 1] }));
		expect(pipelineDevices({ ...plan, stages }).map(({ device }) => device)).toEqual([0, 2]);
	});

	test('a rank with two stages is listed once', () => {
		const { plan } = sampleResult({ stages: 2 });
		const stages = [...plan.stages, { ...plan.stages[0]!, layers: [8, 12] as const }];
		expect(pipelineDevices({ ...plan, stages }).map((d) => d.stages)).toEqual([[0, 2], [1]]);
	});
});

describe("a plan's timeline", () => {
	const result = sampleResult({ stages: 2, microBatches: 2, frozen: [3, 5], syncMs: 4 });

	test('holds the actions as simulated, frozen layers between, transfers beside', () => {
		expect(spansOf(result, 0).map(({ name, kind, start, end }) => [name, kind, start, end])).toEqual([
			['0F0', 'run', 0, 10],
			['send output of 0F0', 'send', 10, 11.5],
			['0F1', 'run', 10, 20],
			['send output of 0F1', 'send', 20, 21.5],
			['vae 0', 'frozen', 20, 23],
			['vae 1', 'frozen', 23, 28],
			['0B0', 'run', 44, 63],
			['0B1', 'run', 75, 94],
			['sum gradients of stage 0', 'allReduce', 94, 98],
			['update stage 0', 'update', 98, 100],
		]);
	});

	test('waits as much as the plan says', () => {
		const timeline = planTimeline(result);
		expect(extentOf(timeline)).toEqual({ start: 0, end: result.plan.iterationMs });
		expect(bubbleRatio(timeline)).toBeCloseTo(result.plan.bubbleRatio.filled, 12);
		expect(bubbleRatio(planTimeline({ ...result, fill: { ...result.fill, items: [] } }))).toBeCloseTo(result.plan.bubbleRatio.unfilled, 12);
	});

	test('calls frozen layers as the profile does', () => {
		const layers = [0, 1].map((i) => ({ name: `down.${i}`, forwardMs: [1], outputBytes: 0, paramBytes: 0 }));
		const { devices } = planTimeline(result, [{ name: 'vae', after: [], layers }]);
		const [first] = devices[1]!.spans.filter((span) => span.kind === 'frozen');
		expect(first).toMatchObject({ name: 'vae down.0', part: 'vae', details: { layer: 0, samples: '4-7' } });
	});

	test('starts with the frozen work that is not filled in, on every device', () => {
		const unfilled = sampleResult({ stages: 2, microBatches: 2, frozenMs: 30 });
		for (const { spans } of planTimeline(unfilled).devices) {
			expect(spans[0]).toMatchObject({ kind: 'frozen', start: 0, end: 30 });
			expect(spans.find(({ action }) => action)!.start).toBeGreaterThanOrEqual(30);
		}
		expect(extentOf(planTimeline(unfilled)).end).toBe(unfilled.plan.iterationMs);
	});

	test('moves of frozen outputs name the device they go to', () => {
		const moves = [{ from: 1, to: 0, startMs: 1, endMs: 2, component: 'vae', layer: 1, samples: [3, 4] as const }];
		const spans = spansOf({ ...result, fill: { ...result.fill, moves } }, 1);
		expect(spans.find(({ details }) => details?.to === 'device 0')).toMatchObject({
			kind: 'send',
			name: 'send output of vae 1',
			details: { samples: '3' },
		});
	});

	test('a sweep without gradients before the plan’s stages belongs to their backbone', () => {
		const stage = { rank: 0, forwardMs: 1, backwardInputMs: 1, backwardWeightMs: 1, hopForwardMs: 0, hopBackwardMs: 0 };
		const more = { savedBytes: 0, syncMs: 0, updateMs: 0, staticBytes: 0 };
		const timeline = simulatePipeline({
			ranks: 1,
			stages: [
				{ ...stage, ...more, next: 1, forwardOnly: true },
				{ ...stage, ...more },
			],
			rows: [
				[
					{ stage: 0, kind: 'F', micro: 0 },
					{ stage: 1, kind: 'F', micro: 0 },
					{ stage: 1, kind: 'B', micro: 0 },
				],
			],
		});
		const { plan, fill } = sampleResult({ stages: 1, frozen: [] });
		expect(spansOf({ plan, timeline, fill }, 0).map(({ part }) => part)).toEqual(['unet sweep', 'unet', 'unet']);
	});
});

describe('its Chrome trace', () => {
	const result = sampleResult({ stages: 3, microBatches: 4, replicas: 2 });
	const { traceEvents } = toChromeTrace([{ name: 'predicted', timeline: planTimeline(result) }]);
	const of = (ph: string) => traceEvents.filter((event) => event.ph === ph);

	test('frozen layers stand with the work, sums of gradients with the transfers', () => {
		const frozen = of('X').filter(({ cat }) => cat === 'frozen');
		expect(frozen).toHaveLength(6 * 6);
		expect(frozen.every(({ tid }) => tid % 2 === 0)).toBe(true);
		expect(frozen[0]!.args).toMatchObject({ part: 'vae', component: 'vae', layer: 0 });
		expect(
			of('X')
				.filter(({ cat }) => cat === 'allReduce')
				.map(({ tid }) => tid),
		).toEqual([1, 3, 5, 7, 9, 11].map((tid) => expect.toSatisfy((t: number) => t % 12 === tid)));
	});

	test('what overlaps on one device has threads of its own, so that spans of every thread nest', () => {
		const overlapping = sampleResult({ stages: 3, microBatches: 4, replicas: 2 });
		const transfers = overlapping.timeline.transfers.map((t) => ({ ...t, end: t.end + 15 }));
		const trace = toChromeTrace([
			{ name: 'x', timeline: planTimeline({ ...overlapping, timeline: { ...overlapping.timeline, transfers } }) },
		]);
		const byThread = new Map<number, { ts: number; end: number }[]>();
		for (const { ph, tid, ts = 0, dur = 0 } of trace.traceEvents) {
			if (ph === 'X') byThread.set(tid, [...(byThread.get(tid) ?? []), { ts, end: ts + dur }]);
		}
		for (const spans of byThread.values()) {
			const sorted = spans.sort((a, b) => a.ts - b.ts);
			for (const [i, span] of sorted.entries()) if (i > 0) expect(span.ts).toBeGreaterThanOrEqual(sorted[i - 1]!.end - 1e-3);
		}
		const names = trace.traceEvents.flatMap(({ name, args }) => (name === 'thread_name' ? [args!.name] : []));
		expect(names).toContain('device 2 transfers 2');
		expect(new Set(names).size).toBe(names.length);
	});

	test('an arrow from every transfer to the run that waited for it, replica by replica', () => {
		const ends = new Map(of('f').map((event) => [event.id, event]));
		// Two hops, there and back, for four micro-batches on two devices each.
		expect(of('s')).toHaveLength(2 * 2 * 4 * 2);
		for (const { id, ts, tid } of of('s')) {
			const end = ends.get(id)!;
			expect(end.ts!).toBeGreaterThanOrEqual(ts! + 1500 - 1e-6);
			expect(Math.abs((end.tid >> 1) - ((tid % 12) >> 1))).toBe(2);
		}
	});
});
