/** @file Corrected profiles: what was measured becomes what the profile says, and nothing else changes. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { correctProfile, type MeasuredSpan, type MeasuredTimeline } from '../../../src/plan/profile/correct.ts';
import { timeAt } from '../../../src/plan/profile/times.ts';
import type { Profile } from '../../../src/plan/profile/types.ts';
import { searchPlan } from '../../../src/plan/search/index.ts';
import { walkPlan } from '../../../src/plan/search/simulate-plan.ts';
import { planTimeline } from '../../../src/program/plan-timeline.ts';
import { sampleCluster, sampleProfile } from '../../helpers/profiles.ts';

const profile = sampleProfile();
const options = { stages: 4, pipelines: 1, microBatches: 8, schedule: '1f1b', effort: 0, baselines: false } as const;
const { plan } = searchPlan(profile, sampleCluster, 32, options);
const local = 4;

/** The iteration as devices whose layers take what `truth` says would note it: the plan's own actions and frozen layers, each as long as `truth` has it. */
function measuredBy(truth: Profile, change: Partial<typeof plan> = {}): MeasuredTimeline {
	const walked = planTimeline(walkPlan({ ...plan, ...change }, truth, sampleCluster));
	const items = plan.fill.map(({ device, component, layer, samples }): MeasuredSpan & { device: number } => {
		const layers = truth.frozen.find(({ name }) => name === component)!.layers;
		const ms = timeAt(truth.batchSizes, layers[layer]!.forwardMs, samples[1] - samples[0]);
		return { device, kind: 'frozen', start: 0, end: ms, frozen: { part: component, layers: [layer, layer + 1], samples } };
	});
	return {
		devices: walked.devices.map(({ device, spans }) => ({
			device,
			spans: [...spans.filter(({ kind }) => kind === 'run' || kind === 'update'), ...items.filter((item) => item.device === device)],
		})),
	};
}

const stageSums = ({ backbones, batchSizes }: Profile) =>
	plan.stages.map(({ layers: [from, to] }) =>
		(['forwardMs', 'backwardInputMs', 'backwardWeightMs'] as const).map((key) =>
			backbones[0]!.layers.slice(from, to).reduce((sum, layer) => sum + timeAt(batchSizes, layer[key], local), 0),
		),
	);

function slowed(by: (layer: number) => number, frozenBy: number): Profile {
	const [unet] = profile.backbones;
	const scale = (ms: readonly number[], f: number) => ms.map((each) => each * f);
	return {
		...profile,
		backbones: [
			{
				...unet!,
				layers: unet!.layers.map((l, i) => ({
					...l,
					forwardMs: scale(l.forwardMs, by(i)),
					backwardInputMs: scale(l.backwardInputMs, by(i)),
					backwardWeightMs: scale(l.backwardWeightMs, by(i)),
					updateMs: l.updateMs! * by(i),
				})),
			},
		],
		frozen: profile.frozen.map((c) => ({ ...c, layers: c.layers.map((l) => ({ ...l, forwardMs: scale(l.forwardMs, frozenBy) })) })),
	};
}

describe('correctProfile', () => {
	it('leaves a profile as it is that was right', () => {
		const corrected = correctProfile(profile, plan, [measuredBy(profile)]);
		corrected.backbones[0]!.layers.forEach((layer, i) => {
			for (const key of ['forwardMs', 'backwardInputMs', 'backwardWeightMs'] as const)
				layer[key].forEach((ms, b) => {
					expect(ms).toBeCloseTo(profile.backbones[0]!.layers[i]![key][b]!, 9);
				});
		});
		expect(corrected.frozen.map((c) => c.layers.map(({ forwardMs }) => forwardMs[2]!))).toEqual(
			profile.frozen.map((c) => c.layers.map(({ forwardMs }) => expect.closeTo(forwardMs[2]!, 9))),
		);
		expect({ ...corrected, backbones: [], frozen: [], handling: undefined }).toEqual({ ...profile, backbones: [], frozen: [] });
	});

	it('finds the stage that was slower and the frozen layers that were faster', () => {
		const factors = plan.stages.flatMap(({ layers: [from, to] }, s) => new Array<number>(to - from).fill(s === 2 ? 1.7 : 1));
		const truth = slowed((i) => factors[i]!, 0.5);
		const corrected = correctProfile(profile, plan, [measuredBy(truth)]);
		expect(stageSums(corrected)).toEqual(stageSums(truth).map((row) => row.map((ms) => expect.closeTo(ms, 9))));
		const at = (p: Profile) => p.frozen.map((c) => c.layers.map(({ forwardMs }) => forwardMs.map((ms) => expect.closeTo(ms, 6))));
		expect(corrected.frozen.map((c) => c.layers.map(({ forwardMs }) => forwardMs))).toEqual(at(truth));
		expect(walkPlan(plan, corrected, sampleCluster).timeline.endMs).toBeCloseTo(walkPlan(plan, truth, sampleCluster).timeline.endMs, 6);
	});

	it('meets the sums of stages whatever each layer took', () => {
		fc.assert(
			fc.property(fc.array(fc.double({ min: 0.2, max: 5, noNaN: true }), { minLength: 8, maxLength: 8 }), (by) => {
				const truth = slowed((i) => by[i]!, 1);
				const found = stageSums(correctProfile(profile, plan, [measuredBy(truth)]));
				// Forward and both parts of the backward have one factor where the schedule does not part them.
				found.forEach(([f, i, w], s) => {
					const [forward, input, weight] = stageSums(truth)[s]! as [number, number, number];
					expect(f).toBeCloseTo(forward, 9);
					expect(i! + w!).toBeCloseTo(input + weight, 9);
				});
			}),
			{ numRuns: 30 },
		);
	});

	it('takes medians, so that one slow step changes nothing', () => {
		const slow = measuredBy(slowed(() => 9, 9));
		const corrected = correctProfile(profile, plan, [measuredBy(profile), slow, measuredBy(profile)]);
		expect(stageSums(corrected)).toEqual(stageSums(profile).map((row) => row.map((ms) => expect.closeTo(ms, 9))));
	});

	it('splits frames of several layers in proportion, and lets other batch sizes follow', () => {
		const vae = profile.frozen[0]!;
		const frame: MeasuredSpan = { kind: 'frozen', start: 0, end: 60, frozen: { part: 'vae', layers: [0, 3], samples: [0, 4] } };
		const { frozen } = correctProfile(profile, plan, [{ devices: [{ device: 0, spans: [frame] }] }]);
		const sum = vae.layers.reduce((ms, layer) => ms + layer.forwardMs[2]!, 0);
		frozen[0]!.layers.forEach(({ forwardMs }, l) => {
			forwardMs.forEach((ms, b) => {
				expect(ms).toBeCloseTo((vae.layers[l]!.forwardMs[b]! * 60) / sum, 9);
			});
		});
		expect(frozen[1]).toEqual(profile.frozen[1]);
	});
});
