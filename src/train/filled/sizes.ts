/**
 * @file Filled training on images of several sizes: a program for each, over one set of weights. A step whose next has its size runs the frozen parts of that
 * next step in its bubbles; one after which the size changes runs without, and then the other size's program runs them on all devices at once.
 */
import type { Tensor } from '../../core/tensor.ts';
import type { TrainingSession } from '../session.ts';

/** What the frozen parts of a step are fed. */
export type FrozenFeeds = Readonly<Record<string, Tensor>>;

/** The sizes of a run. */
export interface FilledSizes {
	/** Name of the data's first size, whose session is open already. */
	readonly first: string;
	/** The size of the step that feeds are for. */
	readonly sizeOf: (frozen: FrozenFeeds) => string;
	/** Starts another size's session, over the same memory. */
	readonly open: (size: string) => Promise<TrainingSession>;
}

/**
 * `base`, the session of the first size, with steps of every size. Sessions of the others are opened when their size first comes up. Each is planned again
 * by its own steps, where it can be; parameters stay where they are.
 */
export function filledSizesSession(base: TrainingSession, { first, sizeOf, open }: FilledSizes): TrainingSession {
	const sessions = new Map([[first, base]]);
	/** The one that has run the frozen parts of the next step, and its size. */
	let [size, current] = [first, base];
	const begin = async (frozen: FrozenFeeds, swept?: boolean) => {
		size = sizeOf(frozen);
		const known = sessions.get(size);
		current = known ?? (await open(size));
		sessions.set(size, current);
		await current.begin!(frozen, swept);
	};
	return {
		get plan() {
			return base.plan;
		},
		parameters: base.parameters,
		begin,
		async step(feeds, hyper, trace, ahead, ...more) {
			if (!ahead || sizeOf(ahead) === size) return current.step(feeds, hyper, trace, ahead, ...more);
			const result = await current.step(feeds, hyper, trace, undefined, ...more);
			await begin(ahead, ...more);
			return result;
		},
		sizeOf: (compiled) => [...sessions].find(([, { plan }]) => plan.compiled === compiled)?.[0],
		async rearrange() {
			await current.rearrange?.();
			return false;
		},
		async close() {
			for (const session of sessions.values()) await session.close();
		},
	};
}
