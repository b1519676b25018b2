/** @file The filling of idle time with frozen work as a problem and its answer: numbers only. */
import type { FrozenComponent } from '../profile/types.ts';

/** ms, on the clock of the iteration. */
export interface IdleInterval {
	readonly start: number;
	readonly end: number;
}

export interface FillProblem {
	/** Per device: when it is idle within [0, endMs], in order, not touching each other. */
	readonly idle: readonly (readonly IdleInterval[])[];
	/** The iteration without any frozen work, ms. After it every device is idle for as long as needed. */
	readonly endMs: number;
	/** Samples that every layer of every component has to process within the iteration. */
	readonly batch: number;
	/** As in the profile. */
	readonly batchSizes: readonly number[];
	readonly components: readonly FrozenComponent[];
	/** ms for `bytes` from one device to another; 0 on the same. */
	readonly transferMs: (bytes: number, from: number, to: number) => number;
	/** What each device has left for the weights of frozen layers that run there; no limit when absent. */
	readonly freeBytes?: readonly number[];
	/** Intervals shorter than this are left alone, ms; 0 unless given. */
	readonly shortestMs?: number;
}

/** Layer `layer` (index within its component) runs on samples [from, to) on one device, without a break. */
export interface FillItem {
	readonly device: number;
	readonly startMs: number;
	readonly endMs: number;
	readonly component: string;
	readonly layer: number;
	readonly samples: readonly [from: number, to: number];
}

/** A move of a layer's output between devices. It occupies no device; one at a time per direction of a pair. */
export interface FillMove {
	readonly from: number;
	readonly to: number;
	readonly startMs: number;
	readonly endMs: number;
	readonly component: string;
	readonly layer: number;
	readonly samples: readonly [from: number, to: number];
}

export interface FillResult {
	/** By device, then time. Items that end after the problem's `endMs` run after the flush and lengthen the iteration. */
	readonly items: readonly FillItem[];
	readonly moves: readonly FillMove[];
	/** The iteration with the frozen work in it, ms. */
	readonly iterationMs: number;
	/** No filling of this timeline ends earlier. */
	readonly lowerBoundMs: number;
	/** How `items` were found: the greedy alone, or what improved on it. */
	readonly method: string;
}
