/** @file Plans of every schedule become programs, with the frozen work where the plan has it. */
import { describe, expect, it } from 'vitest';
import type { Chain } from '../../src/nn/chain.ts';
import { type DraftOptions, draftPlan } from '../../src/plan/draft.ts';
import type { Backbone, Profile } from '../../src/plan/profile/types.ts';
import { simulatePlan } from '../../src/plan/search/simulate-plan.ts';
import { adamwHyperSize } from '../../src/program/adamw.ts';
import { lowerFilled } from '../../src/program/fill/lower.ts';
import { plannedStarts } from '../../src/program/fill/starts.ts';
import { lowerPlan, type PlannedBackbone } from '../../src/program/lower.ts';
import { plainProgram, sweptProgram } from '../../src/program/swept.ts';
import { formatProgram } from '../../src/program/text.ts';
import { verifyProgram } from '../../src/program/verify.ts';
import { selfChain, skipChain } from '../engine/chains.ts';
import { frozenParts } from '../engine/filled.ts';

const batch = 24;
const optimiser = { moments: 2, hyperSize: adamwHyperSize };
const cluster = (devices: number) => ({
	version: 1 as const,
	hosts: 1,
	devicesPerHost: devices,
	memoryBytes: 1e9,
	intra: { latencyMs: 0.01, bytesPerMs: 1e6 },
	inter: { latencyMs: 0.01, bytesPerMs: 1e6 },
});

function backboneOf({ name, layers }: Chain, selfConditioning = 0): Backbone {
	return {
		name,
		selfConditioning,
		layers: layers.map((layer) => ({
			name: layer.name,
			forwardMs: [1, 2],
			backwardInputMs: [1, 2],
			backwardWeightMs: [1, 2],
			cutBytes: 100,
			activationBytes: 100,
			paramBytes: 100,
			gradBytes: 100,
		})),
	};
}

/** The frozen parts of `frozenParts`, quick enough to fit between the actions. */
const frozen: Profile['frozen'] = [
	{
		name: 'encoder',
		after: [],
		layers: ['first', 'second', 'third'].map((name) => ({ name, forwardMs: [0.2, 0.4], outputBytes: 24, paramBytes: 100 })),
	},
	{
		name: 'teacher',
		after: ['encoder'],
		layers: ['mix', 'out'].map((name) => ({ name, forwardMs: [0.2, 0.4], outputBytes: 24, paramBytes: 100 })),
	},
];

const cutsOf = ({ layers }: Chain, stages: number) =>
	Array.from({ length: stages - 1 }, (_, s) => Math.round(((s + 1) * layers.length) / stages));

interface Case {
	readonly devices: number;
	readonly stages: number;
	readonly options: DraftOptions;
	readonly ranks: readonly string[];
}

const cases: readonly (readonly [string, Case])[] = [
	['gpipe', { devices: 2, stages: 2, options: { microBatches: 2, schedule: 'gpipe' }, ranks: ['0', '1'] }],
	[
		'1f1b, deep, recomputed',
		{ devices: 4, stages: 4, options: { microBatches: 4, warmup: 'deep', recompute: true }, ranks: ['0', '1', '2', '3'] },
	],
	[
		'interleaved-1f1b',
		{
			devices: 4,
			stages: 6,
			options: { microBatches: 4, schedule: 'interleaved-1f1b', chunks: 3, pipelines: 2 },
			ranks: ['0 2 4', '1 3 5', '0 2 4', '1 3 5'],
		},
	],
	['zero-bubble', { devices: 3, stages: 3, options: { microBatches: 4, schedule: 'zero-bubble' }, ranks: ['0', '1', '2'] }],
	[
		'zero-bubble, folded',
		{ devices: 2, stages: 4, options: { microBatches: 4, schedule: 'zero-bubble', placement: 'folded' }, ranks: ['0 3', '1 2'] },
	],
	['1f1b on 1 and 3 devices', { devices: 4, stages: 2, options: { microBatches: 4, replicas: [1, 3] }, ranks: ['0', '1', '1', '1'] }],
	[
		'1f1b, copies side by side',
		{
			devices: 6,
			stages: 2,
			options: { microBatches: 4, pipelines: 2, replicas: [2, 1], layout: 'copies' },
			ranks: ['0', '0', '0', '0', '1', '1'],
		},
	],
];

describe('lowerPlan', () => {
	it.each(cases)('%s', (_, { devices, stages, options, ranks }) => {
		const profile: Profile = { version: 1, name: 'job', batchSizes: [1, 2], backbones: [backboneOf(skipChain)], frozen };
		const draft = draftPlan(profile, cluster(devices), batch, [cutsOf(skipChain, stages)], options);
		const { plan, timeline } = simulatePlan(draft, profile, cluster(devices));
		const training = lowerPlan(plan, [{ chain: skipChain }], optimiser);
		verifyProgram(training.program);
		expect(training.program.devices.map(({ banks }) => banks.map(({ id }) => id.slice('stage'.length)).join(' '))).toEqual(ranks);
		const { parts, given } = frozenParts();
		const starts = plannedStarts(training.program, plan, timeline);
		for (const { device } of training.program.devices) {
			const own = starts(device);
			expect(own).toEqual([...own].sort((a, b) => a - b));
			expect(own.length).toBeGreaterThan(0);
		}
		const filled = lowerFilled(training, { parts, given, items: plan.fill, starts });
		verifyProgram(filled.program);
		// Something runs in the bubbles: before the last action of some device.
		const early = filled.program.devices.filter(({ iteration }) => {
			const last = iteration.findLastIndex((i) => i.op === 'run' && i.action);
			return iteration.slice(0, last).some((i) => i.op === 'run' && i.frozen);
		});
		if (devices > 1) expect(early.length).toBeGreaterThan(0);
	});

	it('two backbones, each with its own loss and optimiser', () => {
		const larger = { ...skipChain, name: 'larger' };
		const backbones = [backboneOf(skipChain), backboneOf(larger)];
		const profile: Profile = { version: 1, name: 'cascade', batchSizes: [1, 2], backbones, frozen: [] };
		const draft = draftPlan(profile, cluster(3), batch, [cutsOf(skipChain, 3), cutsOf(larger, 3)], { microBatches: 4 });
		const { plan } = simulatePlan(draft, profile, cluster(3));
		const { program, stages } = lowerPlan(plan, [{ chain: skipChain }, { chain: larger }], optimiser);
		verifyProgram(program);
		expect(program.devices.map(({ banks }) => banks.map(({ id }) => id))).toEqual([
			['stage0', 'stage5'],
			['stage1', 'stage4'],
			['stage2', 'stage3'],
		]);
		expect(stages.map(({ backbone }) => backbone)).toEqual([0, 0, 0, 1, 1, 1]);
		expect(Object.keys(program.sources)).toEqual(['skips.hyper', 'larger.hyper', 'skips.x', 'skips.target', 'larger.x', 'larger.target']);
	});

	it('self-conditioning: a program with the sweep beside the one without', () => {
		const profile: Profile = { version: 1, name: 'guess', batchSizes: [1, 2], backbones: [backboneOf(selfChain, 0.5)], frozen: [] };
		const draft = draftPlan(profile, cluster(3), batch, [cutsOf(selfChain, 3)], { microBatches: 4 });
		const { plan } = simulatePlan(draft, profile, cluster(3));
		const backbone: PlannedBackbone = { chain: selfChain, selfConditioning: { input: 'self_cond', output: 'x0' } };
		const { program: both } = lowerPlan(plan, [backbone], optimiser);
		verifyProgram(both);
		const [program, swept] = [plainProgram(both), sweptProgram(both)!];
		expect(formatProgram(both).match(/ {2}iteration.*/g)).toEqual(
			Array.from({ length: 3 }, () => ['  iteration', '  iteration with a sweep ahead']).flat(),
		);
		// What is fed back is not fed by the host to the stage that is trained.
		const fed = (all: typeof program) => all.devices[0]!.iteration.filter((i) => i.op === 'feed' && i.source === 'self_cond').length;
		expect([fed(program), fed(swept)]).toEqual([4, 4]);
		const back = (all: typeof program) =>
			all.devices[2]!.iteration.flatMap((i) => (i.op === 'send' && i.peer === 0 ? [i.slot.replace(/#.*/, '')] : []));
		expect(new Set(back(program))).toEqual(new Set(['grad:skip@0']));
		expect(new Set(back(swept))).toEqual(new Set(['grad:skip@0', 'sweep:x0@6']));
	});

	it('refuses a plan of other chains', () => {
		const profile: Profile = { version: 1, name: 'job', batchSizes: [1, 2], backbones: [backboneOf(skipChain)], frozen: [] };
		const { plan } = simulatePlan(draftPlan(profile, cluster(2), batch, [[8]], { microBatches: 2 }), profile, cluster(2));
		expect(() => lowerPlan(plan, [{ chain: selfChain }], optimiser)).toThrow(
			/^plan of job: the stages are not those of self-conditioned\n {2}expected: ranges that join from 0 to 9\n {2}found: \[0, 8\) \[8, 17\)/,
		);
		expect(() => lowerPlan(plan, [{ chain: skipChain }, { chain: selfChain }], optimiser)).toThrow(/another number of backbones/);
	});
});
