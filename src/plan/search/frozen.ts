/** @file Frozen work in numbers: what it takes without filling, and the filling problem that a timeline leaves. */
import { transferMs } from '../cluster/links.ts';
import type { FillProblem, IdleInterval } from '../fill/types.ts';
import type { PipelineTimeline } from '../pipeline/types.ts';
import { timeAt } from '../profile/times.ts';
import type { FrozenComponent, Handling, Profile } from '../profile/types.ts';
import type { Job } from './job.ts';
import { rankPlaces } from './pipeline.ts';
import type { Assignment, Shape } from './shape.ts';

/** Weights of all frozen components, bytes. */
export function frozenBytes(components: readonly FrozenComponent[]): number {
	return components.reduce((sum, { layers }) => sum + layers.reduce((n, l) => n + l.paramBytes, 0), 0);
}

/** All frozen layers on `local` samples of one device, ms; each layer in as many equal portions as suit it best. */
export function frozenMs({ batchSizes, frozen }: Pick<Profile, 'batchSizes' | 'frozen'>, local: number): number {
	let sum = 0;
	for (const { layers } of frozen) for (const { forwardMs } of layers) sum += bestPortions(batchSizes, forwardMs, local);
	return sum;
}

function bestPortions(batchSizes: readonly number[], ms: readonly number[], local: number): number {
	let best = timeAt(batchSizes, ms, local);
	for (const size of batchSizes) {
		const portions = Math.ceil(local / size);
		if (portions > 1) best = Math.min(best, portions * timeAt(batchSizes, ms, local / portions));
	}
	return best;
}

/** Device time of all frozen work at its cheapest per sample: `batch` samples, ms. */
export function leastFrozenMs({ batchSizes, frozen }: Pick<Profile, 'batchSizes' | 'frozen'>, batch: number): number {
	let sum = 0;
	for (const { layers } of frozen) {
		for (const { forwardMs } of layers) sum += batch * Math.min(...batchSizes.map((size, i) => forwardMs[i]! / size));
	}
	return sum;
}

/** When each rank is idle within the iteration, in order. */
export function idleOf({ spans, endMs }: PipelineTimeline): readonly (readonly IdleInterval[])[] {
	return spans.map((rank) => {
		const idle: IdleInterval[] = [];
		let at = 0;
		for (const { start, end } of rank) {
			if (start > at + 1e-9) idle.push({ start: at, end: start });
			at = Math.max(at, end);
		}
		if (endMs > at + 1e-9) idle.push({ start: at, end: endMs });
		return idle;
	});
}

/** Share of a gap that work measured on its own may overrun it by. */
const scatter = 0.03;
/** Runs of frozen layers in a gap, about. */
const runsPerGap = 3;

/**
 * Idle time as far as frozen work may be planned into it on devices whose `handling` is known: what runs into the next action delays every device that waits
 * for it, while after the last action there is time for what was left. So each gap before `endMs` ends earlier, by what handing values over takes there and
 * by the scatter of times. All of it where nothing is known of that.
 */
export function plannedIdle(
	idle: readonly (readonly IdleInterval[])[],
	endMs: number,
	handling: Handling | undefined,
): readonly (readonly IdleInterval[])[] {
	if (!handling) return idle;
	const { feedMs, joinMs, betweenMs } = handling;
	const around = runsPerGap * (feedMs + joinMs + 4 * betweenMs);
	return idle.map((own) =>
		own.map(({ start, end }) =>
			end >= endMs - 1e-9 ? { start, end } : { start, end: Math.max(start, end - around - scatter * (end - start)) },
		),
	);
}

/**
 * The filling of one pipeline: its devices' idle time, its part of the batch, what its devices have left for weights. `peakBytes`, rank by rank, where other
 * iterations need more than those of `timeline`.
 */
export function fillProblem(
	job: Job,
	shape: Shape,
	assignment: Assignment,
	timeline: PipelineTimeline,
	peakBytes: readonly number[] = timeline.peakBytes,
): FillProblem {
	const idle = plannedIdle(idleOf(timeline), timeline.endMs, job.profile.handling);
	const places = rankPlaces(assignment.replicas);
	const rankOf = places.flatMap(({ count }, rank) => new Array<number>(count).fill(rank));
	const cluster = job.places(shape.layout, shape.pipelines, shape.devices);
	const numbers = places.flatMap((place) => cluster.devices(place, 0));
	return {
		idle: rankOf.map((rank) => idle[rank]!),
		endMs: timeline.endMs,
		batch: job.batch / shape.pipelines,
		batchSizes: job.profile.batchSizes,
		components: job.profile.frozen,
		transferMs: (bytes, from, to) => transferMs(job.cluster, bytes, numbers[from]!, numbers[to]!),
		freeBytes: rankOf.map((rank) => job.cluster.memoryBytes - peakBytes[rank]!),
	};
}
