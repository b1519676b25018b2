/** @file Predicted beside measured: every device's time is counted once, under the same names on both sides. */
import { describe, expect, it } from 'vitest';
import type { DiffusionPipeError } from '../../src/core/errors.ts';
import { commonDevices, compareTimelines, relativeDifference } from '../../src/program/compare.ts';
import { paletteOf } from '../../src/program/picture/palette.ts';
import { planTimeline } from '../../src/program/plan-timeline.ts';
import { readRecord, recordDocument, type StepRecord } from '../../src/program/step-record.ts';
import { extentOf, type Span, type Timeline } from '../../src/program/timeline.ts';
import { renderTimelines } from '../../src/program/timeline-text.ts';
import { deviceId } from '../../src/program/types.ts';
import { sampleResult } from '../helpers/plans.ts';

/** As an engine notes it: without names of backbones, and `slower` times as long. */
function measuredOf(timeline: Timeline, slower: number): Timeline {
	const spans = (all: readonly Span[]) =>
		all.map(({ part, ...span }): Span => {
			const named = span.kind === 'frozen' && part !== undefined ? { ...span, part } : span;
			return { ...named, start: slower * span.start, end: slower * span.end };
		});
	return { devices: timeline.devices.map(({ device, spans: all }) => ({ device, spans: spans(all) })) };
}

describe('compareTimelines', () => {
	it('finds no difference between a prediction and itself, and a factor where there is one', () => {
		const predicted = planTimeline(sampleResult());
		for (const slower of [1, 1.5]) {
			const { iterationMs, bubble, total, devices } = compareTimelines(predicted, measuredOf(predicted, slower));
			expect(relativeDifference(iterationMs)).toBeCloseTo(slower - 1, 9);
			expect(bubble.measured).toBeCloseTo(bubble.predicted, 9);
			for (const pair of [...total, ...devices.flatMap(({ kinds }) => kinds)])
				expect(pair.measured).toBeCloseTo(slower * pair.predicted, 6);
		}
	});

	it('accounts for all of a device’s time', () => {
		const { devices, iterationMs, bubble } = compareTimelines(
			planTimeline(sampleResult({ syncMs: 0 })),
			planTimeline(sampleResult({ syncMs: 0 })),
		);
		for (const { kinds } of devices) {
			const own = kinds.filter(({ kind }) => kind !== 'transfers');
			expect(own.reduce((sum, { predicted }) => sum + predicted, 0)).toBeCloseTo(iterationMs.predicted, 6);
		}
		const idle = devices
			.flatMap(({ kinds }) => kinds.filter(({ kind }) => kind === 'idle'))
			.reduce((sum, { predicted }) => sum + predicted, 0);
		expect(idle / (devices.length * iterationMs.predicted)).toBeCloseTo(bubble.predicted, 9);
		expect(devices[0]!.kinds.map(({ kind }) => kind)).toEqual(['forward', 'backward', 'frozen vae', 'update', 'transfers', 'idle']);
	});

	it('keeps to the devices of the first pipeline, and paints both timelines alike', () => {
		const predicted = planTimeline(sampleResult({ pipelines: 2 }));
		const all = measuredOf(predicted, 1).devices;
		const others = all.map(({ device, spans }) => ({ device: deviceId(device + all.length), spans }));
		const found = commonDevices(predicted, { devices: [...all, ...others] });
		expect(found.measured.devices.map(({ device }) => device)).toEqual(predicted.devices.map(({ device }) => device));
		expect(paletteOf([found.predicted, found.measured]).used).toEqual(paletteOf([predicted]).used);
	});
});

it('draws timelines below each other at one scale', () => {
	const predicted = planTimeline(sampleResult());
	const text = renderTimelines(
		[
			{ name: 'predicted', timeline: predicted },
			{ name: 'measured', timeline: measuredOf(predicted, 2) },
		],
		80,
	);
	const rows = text.split('\n').filter((line) => line.startsWith('device 0'));
	const [short, long] = rows.map((row) => row.slice(row.indexOf('|') + 1, row.lastIndexOf('|')).length);
	expect([short, long]).toEqual([40, 80]);
	expect(new Set(rows.map((row) => row.indexOf('% busy'))).size).toBe(1);
	expect(text.split('\n').filter((line) => line.includes('forward'))).toHaveLength(1);
});

describe('the record of a step', () => {
	const record: StepRecord = {
		version: 1,
		step: 12,
		stepMs: 81.23456,
		...planTimeline(sampleResult()),
		memory: [{ device: deviceId(0), fixedBytes: 5, predictedBytes: 9, measuredBytes: 8 }],
	};

	it('comes back from JSON as it was, to the microsecond', () => {
		const back = readRecord(JSON.parse(JSON.stringify(recordDocument(record))));
		expect({ step: back.step, stepMs: back.stepMs, memory: back.memory }).toEqual({ step: 12, stepMs: 81.235, memory: record.memory });
		expect(extentOf(back).end).toBeCloseTo(extentOf(record).end, 3);
		expect(back.devices.map(({ spans }) => spans.length)).toEqual(record.devices.map(({ spans }) => spans.length));
		expect(back.devices[0]!.spans[0]).toEqual(record.devices[0]!.spans[0]);
	});

	it('says which field is wrong', () => {
		const place = (change: unknown) => {
			try {
				readRecord({ ...record, ...(change as object) }, 't.json');
			} catch (error) {
				return (error as DiffusionPipeError).parts.place;
			}
			return undefined;
		};
		expect(place({ devices: [{ device: 0, spans: [{ name: 'a', kind: 'rum', start: 0, end: 1 }] }] })).toContain('kind');
		expect(place({ devices: [{ device: 0, spans: [{ name: 'a', kind: 'run', start: 2, end: 1 }] }] })).toBe('t.json: device 0, a');
	});
});
