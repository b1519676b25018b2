import { describe, expect, it } from 'vitest';
import { memoryOverTime, planStageBytes } from '../../src/plan/memory.ts';
import { searchPlan } from '../../src/plan/search/index.ts';
import { renderMemory } from '../../src/program/memory-text.ts';
import { sampleCluster, sampleProfile } from '../helpers/profiles.ts';

describe('memory over time', () => {
	const stages = [{ rank: 0, savedBytes: 3, staticBytes: 10 }];
	const span = (kind: 'F' | 'B' | 'I' | 'W', micro: number, start: number, end: number) => ({ kind, stage: 0, micro, start, end });
	const timeline = (...spans: ReturnType<typeof span>[]) => ({ endMs: 9, spans: [spans], transfers: [], peakBytes: [0] });

	it('grows at the start of a forward, shrinks at the end of a backward', () => {
		const steps = memoryOverTime(stages, timeline(span('F', 0, 1, 2), span('F', 1, 2, 3), span('B', 0, 4, 6), span('B', 1, 6, 8)));
		expect(steps).toEqual([
			[
				{ ms: 0, bytes: 10 },
				{ ms: 1, bytes: 13 },
				{ ms: 2, bytes: 16 },
				{ ms: 6, bytes: 13 },
				{ ms: 8, bytes: 10 },
			],
		]);
	});

	it('a divided backward holds what it needs until its weights part', () => {
		const steps = memoryOverTime(stages, timeline(span('F', 0, 0, 1), span('I', 0, 1, 2), span('W', 0, 5, 6)), 100);
		expect(steps).toEqual([
			[
				{ ms: 0, bytes: 10 },
				{ ms: 100, bytes: 13 },
				{ ms: 106, bytes: 10 },
			],
		]);
	});

	it.each([{}, { recompute: true }, { placement: 'folded', stages: 4 }, { schedule: 'zero-bubble', stages: 2 }] as const)(
		'tops at what the plan says: %j',
		(options) => {
			const profile = sampleProfile();
			const { plan, timeline: walked } = searchPlan(profile, sampleCluster, 32, { ...options, effort: 0, baselines: false });
			const peaks = memoryOverTime(planStageBytes(plan, profile), walked).map((steps) => Math.max(...steps.map(({ bytes }) => bytes)));
			expect(peaks).toEqual(walked.peakBytes.map((bytes) => expect.closeTo(bytes, 0)));
		},
	);
});

describe('its picture', () => {
	const steps = [
		{ ms: 0, bytes: 1e9 },
		{ ms: 5, bytes: 4e9 },
		{ ms: 7, bytes: 9e9 },
		{ ms: 8, bytes: 1e9 },
	];

	it('is the share of the limit, marked where above it', () => {
		expect(renderMemory([{ label: 'rank 0', steps }], 10, 8e9, 10)).toBe('rank 0 |▂▂▂▂▂▅▅!▂▂| 9.0 GB of 8.0 GB\n');
	});

	it('is the share of the most where there is no limit', () => {
		expect(renderMemory([{ label: 'a\u001b', steps }], 10, Number.MAX_VALUE, 10)).toBe('a\ufffd |▁▁▁▁▁▄▄█▁▁| 9.0 GB\n');
	});
});
