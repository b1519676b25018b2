/**
 * @file Planning again from what a run measures: after some steps the times of its traced steps correct the profile, a plan is searched under it, and where
 * that promises enough the run moves to it between two steps, with its weights, moments and average. Results depend on it within rounding only.
 */
import { programMs } from '../engine/simulate/costs.ts';
import { writeWhole } from '../io/atomic.ts';
import type { Chain } from '../nn/chain.ts';
import { correctProfile, type MeasuredTimeline } from '../plan/profile/correct.ts';
import type { Profile } from '../plan/profile/types.ts';
import type { Plan } from '../plan/types.ts';
import type { Compiled } from '../program/lower.ts';
import { formatProgram } from '../program/text.ts';
import type { Timeline } from '../program/timeline.ts';
import type { TrainEvent } from './events.ts';
import { stageCount } from './layout.ts';
import type { PlacedParameter } from './parameters.ts';
import { measuredSizes, type TrainingPlan } from './plan.ts';
import { knownProfile, type Planned, writePlanned } from './planned.ts';
import type { RunFolder } from './run-folder.ts';
import { openSession, type SessionConfig, type SessionOptions, type TrainingSession } from './session.ts';

/** A way to lay a run over devices, not yet started. */
export interface Candidate {
	readonly planned: Planned;
	readonly compiled: Compiled;
	/** Starts its devices; the values of parameters are left to be set. */
	open(): Promise<TrainingSession>;
	/** To be called when it is not opened. */
	discard?(): Promise<void>;
}

/** What a decision rests on, ms per step as the corrected profile predicts them. */
export interface Replanned {
	readonly before: number;
	readonly after: number;
	/** Whether the run has moved. */
	readonly moved: boolean;
	readonly planned: Planned;
}

export interface ReplanSetup {
	/** Steps after which it is planned again; counted from 0 at the run's first step. */
	readonly after: number;
	readonly maxSteps: number;
	/** Steps done already. */
	readonly firstStep: number;
	/** Buffers of each parameter beside its values: 2, or 3 with an average. */
	readonly moments: number;
	/** Plans under a profile. */
	readonly plan: (profile: Profile) => Promise<Candidate>;
	/** Milliseconds of a steady clock. Default performance.now. */
	readonly clock?: () => number;
	/** Share of a step's time that must be won to move. */
	readonly least: number;
	/** Hears how it was decided, when it is done. */
	readonly onReplanned: (result: Replanned, session: TrainingSession) => void | Promise<void>;
	/** Hears that the time has come and no step was measured: all that were traced were the first of their start, or of another program. */
	readonly onUnmeasured?: () => void;
}

/** Steps that count at most, the last traced before the decision. */
export const tracedSteps = 8;

/**
 * `first`, laid out as `planned` says, as a session that plans again: its `rearrange` does when the time has come. Its parameters stay valid, those of
 * `first` do not.
 */
export function replanningSession(first: TrainingSession, planned: Planned, setup: ReplanSetup): TrainingSession {
	const { after, maxSteps, firstStep, moments, least, clock = () => performance.now() } = setup;
	let current = first;
	let steps = firstStep;
	let ahead: Parameters<TrainingSession['step']>[3];
	let timelines: MeasuredTimeline[] = [];
	let byName = namesOf(first);
	const parameters = first.parameters.map((p): PlacedParameter => ({ ...p, views: (role) => byName.get(p.name)!.views(role) }));
	const session: TrainingSession = {
		get plan() {
			return current.plan;
		},
		parameters,
		async begin(frozen, swept) {
			ahead = frozen;
			await current.begin?.(frozen, swept);
		},
		async step(...[feeds, hyper, trace = false, next, ...more]) {
			const wanted = steps < after && steps >= after - tracedSteps;
			ahead = next;
			const start = clock();
			const result = await current.step(feeds, hyper, trace || wanted, next, ...more);
			const stepMs = clock() - start;
			steps++;
			const { traced } = result;
			// Steps of another program, and the first of a run, which touches memory for the first time, say nothing about the plan.
			if (wanted && traced?.section === 'iteration' && traced.compiled === current.plan.compiled && steps > firstStep + 1)
				timelines.push({ ...(traced.swept ? numberedAsPlanned(traced.timeline, planned.plan) : traced.timeline), stepMs });
			return result;
		},
		async rearrange() {
			if (steps !== after || steps >= maxSteps) return false;
			if (timelines.length === 0) {
				if (firstStep < after) setup.onUnmeasured?.();
				return false;
			}
			const profile = correctProfile(planned.profile, planned.plan, timelines);
			timelines = [];
			const candidate = await setup.plan(profile);
			const before = programMs(current.plan.compiled.program, { ...planned, profile });
			const promised = programMs(candidate.compiled.program, candidate.planned);
			const moved = promised < before * (1 - least);
			if (moved) {
				const next = await candidate.open();
				await takeOver(current, next, moments, ahead);
				current = next;
				byName = namesOf(next);
			} else await candidate.discard?.();
			await setup.onReplanned({ before, after: promised, moved, planned: candidate.planned }, session);
			return moved;
		},
		close: () => current.close(),
	};
	return session;
}

/** A run goes on in `next`, which is closed when it cannot, with the values of `current`, which is closed when it does; `ahead`: frozen work that stands in `current`. */
export async function takeOver(
	current: TrainingSession,
	next: TrainingSession,
	moments: number,
	ahead?: Parameters<TrainingSession['step']>[3],
): Promise<void> {
	try {
		move(current, next, moments);
		if (ahead) await next.begin?.(ahead);
	} catch (error) {
		await next.close();
		throw error;
	}
	await current.close();
}

/** A session's parameters by name. */
export function namesOf({ parameters }: TrainingSession): ReadonlyMap<string, PlacedParameter> {
	return new Map(parameters.map((p) => [p.name, p]));
}

/** A step with a sweep ahead, its stages numbered as in the plan. The sweep's come first in its schedule: their numbers become negative, no stage's. */
export function numberedAsPlanned({ devices }: Timeline, { stages }: Plan): Timeline {
	return {
		devices: devices.map(({ device, spans }) => ({
			device,
			spans: spans.map((span) => (span.action ? { ...span, action: { ...span.action, stage: span.action.stage - stages.length } } : span)),
		})),
	};
}

/** Copies every parameter's values and moments, to every replica. */
function move(from: TrainingSession, to: TrainingSession, moments: number): void {
	const sources = namesOf(from);
	const roles = ['parameter' as const, ...Array.from({ length: moments }, (_, moment) => ({ moment }))];
	for (const target of to.parameters) {
		const source = sources.get(target.name)!;
		for (const role of source.trained ? roles : (['parameter'] as const)) {
			const values = source.views(role)[0]!;
			for (const view of target.views(role)) view.set(values);
		}
	}
}

/** Candidates of a run without frozen parts on its devices: its chain cut by the profile. They are started to be looked at. */
export function plainCandidates(chain: Chain, config: SessionConfig, options: SessionOptions): ReplanSetup['plan'] {
	const { seed: _seed, cuts: _cuts, ...others } = options;
	return async (profile) => {
		const session = await openSession(chain, config, { ...others, profile });
		const { compiled, planned } = session.plan;
		return { planned: planned!, compiled, open: async () => session, discard: () => session.close() };
	};
}

/** The profile from which a resumed run without frozen parts was cut at its first start; undefined when its folder does not tell, or it was not cut by time. */
export async function profileBefore({ profile: path }: RunFolder, config: SessionConfig, chain: Chain): Promise<Profile | undefined> {
	if (stageCount(config.parallel) === 1 || config.parallel.partition_method !== 'time') return undefined;
	return knownProfile(path, chain, measuredSizes(config));
}

/** Why a run that has done `firstStep` steps is not planned again after `after`; undefined where the time has yet to come. */
export function neverReplanned(after: number, firstStep: number, maxSteps: number): string | undefined {
	if (firstStep >= maxSteps) return undefined;
	if (firstStep >= after) return `it goes on after step ${firstStep}, and parallel.replan_after is ${after}`;
	return after >= maxSteps ? `parallel.replan_after is ${after}, and its last step ${maxSteps}` : undefined;
}

/** Says how it was decided, and when the run has moved keeps its plan and programs in its folder. */
export async function tellReplanned(
	folder: RunFolder,
	{ before, after, moved, planned }: Replanned,
	{ compiled, stages }: TrainingPlan,
	say: (event: TrainEvent) => void,
	/** Of the images that it is about, in runs of several sizes. */
	size?: string,
): Promise<void> {
	const change = 100 * (after / before - 1);
	const times = `${before.toFixed(1)} ms per step as it is, ${after.toFixed(1)} ms planned again (${change < 0 ? '' : '+'}${change.toFixed(1)} %)`;
	say({ kind: 'note', text: `from measured times${size ? ` of images of ${size}` : ''}: ${times}: ${moved ? 'moved' : 'left as it is'}` });
	if (!moved) return;
	const text = formatProgram(compiled.program);
	await writePlanned(folder, planned);
	await writeWhole(folder.programs, text);
	say({ kind: 'plan', devices: compiled.program.devices.length, stages, text, ...(size ? { size } : {}) });
}
