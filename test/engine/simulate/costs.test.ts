/** @file A program walked with the costs of the profile it was planned from takes what the plan says. */
import { expect, it } from 'vitest';
import { programMs } from '../../../src/engine/simulate/costs.ts';
import { simulate } from '../../../src/engine/simulate/simulate.ts';
import { plainIterationMs } from '../../../src/plan/expected.ts';
import type { Profile } from '../../../src/plan/profile/types.ts';
import { formatAction } from '../../../src/plan/schedules/text.ts';
import { walkPlan } from '../../../src/plan/search/simulate-plan.ts';
import { plainProgram, sweptProgram } from '../../../src/program/swept.ts';
import { extentOf, ofIteration } from '../../../src/program/timeline.ts';
import { readSessionConfig } from '../../../src/train/config.ts';
import { planOfCuts, planTraining } from '../../../src/train/plan.ts';
import { mixedChain, selfChain } from '../chains.ts';

const profile = (count: number): Profile => ({
	version: 1,
	name: 'mixed',
	batchSizes: [2],
	backbones: [
		{
			name: 'backbone',
			selfConditioning: 0,
			layers: Array.from({ length: count }, (_, i) => ({
				...{ name: `${i}`, forwardMs: [2 + i], backwardInputMs: [3], backwardWeightMs: [1 + i], cutBytes: 0 },
				...{ activationBytes: 0, paramBytes: 0, gradBytes: 0 },
			})),
		},
	],
	frozen: [],
});

it('agrees with the plan', async () => {
	const config = readSessionConfig({
		train: { max_steps: 1, batch_size: 8, gradient_accumulation_steps: 4 },
		parallel: { pipeline_stages: 2 },
	});
	const { compiled, planned } = await planTraining(config, mixedChain, 2, { profile: profile(mixedChain.layers.length) });
	const free = { ...planned!.cluster, intra: { latencyMs: 0, bytesPerMs: 1e300 } };
	const walked = walkPlan(planned!.plan, planned!.profile, free).timeline.endMs;
	expect(walked).toBeGreaterThan(0);
	expect(programMs(compiled.program, { ...planned!, cluster: free })).toBeCloseTo(walked, 9);
	// Devices that do not begin together differ from those that do.
	const costs = { runMs: () => 1, transferMs: () => 5, allReduceMs: () => 0, updateMs: () => 0 };
	const timeline = simulate(compiled.program, costs, { iterations: 3, together: true });
	const extents = [0, 1, 2].map((round) => extentOf(ofIteration(timeline, round)));
	for (const { start, end } of extents) expect(end - start).toBeCloseTo(extents[0]!.end - extents[0]!.start, 9);
	expect(extents[1]!.start).toBe(extents[0]!.end);
});

it('agrees with the plan on both kinds of iteration of self-conditioning, and weighs them', async () => {
	const config = readSessionConfig({
		train: { max_steps: 1, batch_size: 8, gradient_accumulation_steps: 4 },
		parallel: { pipeline_stages: 2 },
	});
	const selfConditioning = { input: 'self_cond', output: 'x0', probability: 0.25 };
	// The cut is in the middle: the sweep, which ends before the loss does, has a part of both stages.
	const { backbones, ...others } = profile(selfChain.layers.length);
	const [{ layers, ...backbone }] = backbones as [(typeof backbones)[0]];
	const measured = { ...others, backbones: [{ ...backbone, layers: layers.map(() => layers[4]!) }] };
	const { compiled, planned } = await planTraining(config, selfChain, 2, { profile: measured, selfConditioning });
	const { plan } = planned!;
	expect(plan.selfConditioning!.probability).toBe(0.25);
	expect(plan.iterationMs).toBeCloseTo(0.75 * plainIterationMs(plan) + 0.25 * plan.selfConditioning!.iterationMs, 9);
	const free = { ...planned!, cluster: { ...planned!.cluster, intra: { latencyMs: 0, bytesPerMs: 1e300 } } };
	const { timeline, sweep } = walkPlan(plan, free.profile, free.cluster);
	expect(sweep!.timeline.endMs).toBeGreaterThan(timeline.endMs);
	expect(programMs(plainProgram(compiled.program), free)).toBeCloseTo(timeline.endMs, 9);
	expect(programMs(sweptProgram(compiled.program)!, free)).toBeCloseTo(sweep!.timeline.endMs, 9);
	expect(programMs(compiled.program, free)).toBeCloseTo(0.75 * timeline.endMs + 0.25 * sweep!.timeline.endMs, 9);
	// The program runs the rows of the plan.
	const rows = sweptProgram(compiled.program)!.devices.map(({ iteration }) =>
		iteration.flatMap((i) => (i.op === 'run' && i.action ? [formatAction(i.action)] : [])).join(','),
	);
	expect(rows).toEqual(plan.selfConditioning!.rows);
});

it('counts what devices do between runs, and the host’s share, where the profile knows them', async () => {
	const config = readSessionConfig({
		train: { max_steps: 1, batch_size: 8, gradient_accumulation_steps: 2 },
		parallel: { data_parallel: 2 },
	});
	const { compiled } = await planTraining(config, mixedChain, 2);
	const planned = planOfCuts(config, profile(mixedChain.layers.length), []);
	// Two devices that do the same.
	const handling = { feedMs: 0.5, fetchMs: 0.25, joinMs: 2, sendMs: 1, betweenMs: 0.125, stepMs: 3 };
	const without = programMs(compiled.program, planned);
	const { iteration } = compiled.program.devices[0]!;
	const count = (of: (i: (typeof iteration)[number]) => boolean) => iteration.filter(of).length;
	const more =
		count((i) => i.op === 'feed') * 0.5 +
		count((i) => i.op === 'fetch') * 0.25 +
		count((i) => i.op === 'run' && !i.action) * 2 +
		// Before the first instruction nothing is counted: the iteration begins with it.
		(count((i) => i.op !== 'drop') - 1) * 0.125 +
		3;
	expect(programMs(compiled.program, { ...planned, profile: { ...planned.profile, handling } })).toBeCloseTo(without + more, 9);
});
