/**
 * @file Planning a run on images of several sizes again. Its sizes share their weights and so have the same cuts: those are chosen anew for all of them, by
 * what each size measured in its own traced steps, weighed by how often its steps come up.
 */
import { programMs } from '../engine/simulate/costs.ts';
import type { Chain } from '../nn/chain.ts';
import { correctProfile, type MeasuredTimeline } from '../plan/profile/correct.ts';
import type { Profile, TrainedLayer } from '../plan/profile/types.ts';
import type { Program } from '../program/types.ts';
import type { PlacedParameter } from './parameters.ts';
import { planOfCuts, planTraining } from './plan.ts';
import type { Planned } from './planned.ts';
import { namesOf, numberedAsPlanned, type ReplanSetup, takeOver, tracedSteps } from './replan.ts';
import { conditioned, type SelfConditioning } from './self-conditioning.ts';
import type { SessionConfig, TrainingSession } from './session.ts';

/** What is trained on images of one size. */
export interface ReplannedSize {
	readonly chain: Chain;
	/** Of a row of steps. */
	readonly steps: number;
}

export interface SizesReplanSetup extends Omit<ReplanSetup, 'plan'> {
	readonly config: SessionConfig;
	readonly selfConditioning: SelfConditioning | undefined;
	/** By name, that of the session's own program first. */
	readonly sizes: ReadonlyMap<string, ReplannedSize>;
	/** The name of the size that a step's feeds are for. */
	readonly sizeOf: (feeds: Parameters<TrainingSession['step']>[0]) => string;
	/** Starts a session of every size with other cuts, over memory of its own. */
	readonly open: (cuts: readonly number[]) => Promise<TrainingSession>;
}

/** Traced steps of a size. */
interface Measured {
	readonly program: Program;
	readonly timelines: readonly MeasuredTimeline[];
}

/**
 * `first`, a session of several sizes cut as `planned` says, as one that plans again: its `rearrange` does when the time has come. Sizes that no step was traced
 * of by then do not count. Its parameters stay valid, those of `first` do not.
 */
export function replanningSizes(first: TrainingSession, planned: Planned, setup: SizesReplanSetup): TrainingSession {
	const { after, maxSteps, firstStep, moments, least, clock = () => performance.now() } = setup;
	let current = first;
	let steps = firstStep;
	let byName = namesOf(first);
	const measured = new Map<string, Measured>();
	const session: TrainingSession = {
		get plan() {
			return current.plan;
		},
		parameters: first.parameters.map((p): PlacedParameter => ({ ...p, views: (role) => byName.get(p.name)!.views(role) })),
		async step(...[feeds, hyper, trace = false, ...more]) {
			// All until then: the last few may be of one size.
			const wanted = steps < after;
			const start = clock();
			const result = await current.step(feeds, hyper, trace || wanted, ...more);
			const stepMs = clock() - start;
			steps++;
			const { traced } = result;
			if (!wanted || !traced) return result;
			const size = setup.sizeOf(feeds);
			const own = measured.get(size);
			const timeline = { ...(traced.swept ? numberedAsPlanned(traced.timeline, planned.plan) : traced.timeline), stepMs };
			// The first step of a program touches memory for the first time.
			const timelines = own ? [...own.timelines, timeline].slice(-tracedSteps) : [];
			measured.set(size, { program: traced.compiled.program, timelines });
			return result;
		},
		async rearrange() {
			const known = [...measured].filter(([, { timelines }]) => timelines.length > 0);
			if (steps !== after || steps >= maxSteps) return false;
			if (known.length === 0) {
				if (firstStep < after) setup.onUnmeasured?.();
				return false;
			}
			const sizes = known.map(([name, { program, timelines }]) => ({
				...setup.sizes.get(name)!,
				program,
				profile: correctProfile(planned.profile, planned.plan, timelines),
			}));
			measured.clear();
			const result = await cutAgain(planned, sizes, setup);
			const moved = result.after < result.before * (1 - least);
			if (moved) {
				const next = await setup.open(result.planned.plan.stages.slice(1).map(({ layers }) => layers[0]));
				await takeOver(current, next, moments);
				current = next;
				byName = namesOf(next);
			}
			await setup.onReplanned({ ...result, moved }, session);
			return moved;
		},
		close: () => current.close(),
	};
	return session;
}

/** The best cuts for `sizes` together, and what their steps take with those of `planned` and with them, ms on average. */
async function cutAgain(
	planned: Planned,
	sizes: readonly (ReplannedSize & { readonly program: Program; readonly profile: Profile })[],
	{ config, moments, selfConditioning, sizes: all }: SizesReplanSetup,
): Promise<{ readonly before: number; readonly after: number; readonly planned: Planned }> {
	const total = sizes.reduce((sum, { steps }) => sum + steps, 0);
	const how = selfConditioning ? { selfConditioning } : {};
	const [own] = all.values();
	const profile = meanProfile(sizes.map((size) => [size.steps / total, size.profile]));
	const { planned: found, cuts, recompute } = await planTraining(config, own!.chain, moments, { profile, ...how });
	const settled = { ...config, parallel: { ...config.parallel, activation_checkpointing: recompute } };
	let [before, after] = [0, 0];
	for (const { chain, steps, program, profile: measured } of sizes) {
		const { compiled } = await planTraining(config, chain, moments, { cuts, ...how });
		before += (steps / total) * programMs(program, { ...planned, profile: measured });
		after += (steps / total) * programMs(compiled.program, planOfCuts(settled, conditioned(measured, selfConditioning), cuts));
	}
	return { before, after, planned: found! };
}

/** Times of layers, each profile weighed by its share; all else as in the first. */
function meanProfile(shares: readonly (readonly [share: number, profile: Profile])[]): Profile {
	const [, first] = shares[0]!;
	return {
		...first,
		backbones: first.backbones.map((backbone, b) => ({
			...backbone,
			layers: backbone.layers.map((layer, l) => {
				const mean = (key: 'forwardMs' | 'backwardInputMs' | 'backwardWeightMs') =>
					layer[key].map((_, size) =>
						shares.reduce((sum, [share, { backbones }]) => sum + share * backbones[b]!.layers[l]![key][size]!, 0),
					);
				return {
					...layer,
					forwardMs: mean('forwardMs'),
					backwardInputMs: mean('backwardInputMs'),
					backwardWeightMs: mean('backwardWeightMs'),
				} satisfies TrainedLayer;
			}),
		})),
	};
}
