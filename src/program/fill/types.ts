/** @file Frozen parts of a job as chains, and how they reach the backbone. */
import type { ChainTrace } from '../../nn/chain.ts';

/** A frozen chain. Its parameters are named within the component. */
export interface FrozenPart {
	/** As in the profile. */
	readonly name: string;
	readonly trace: ChainTrace;
	/** Chain inputs that another part's output gives; the others are fed from the host as source `<part>.<input>`. */
	readonly takes: Readonly<Record<string, OutputOf>>;
}

/** An output of a frozen part, by its name in the chain. */
export interface OutputOf {
	readonly part: string;
	readonly output: string;
}

/** Which inputs of the trained chain frozen outputs give, by the chain's input name. */
export type Given = Readonly<Record<string, OutputOf>>;

/** Consecutive layers that run on the same samples of one device without a break: one graph. */
export interface Frame {
	readonly device: number;
	readonly part: string;
	/** Layers [from, to). */
	readonly from: number;
	readonly to: number;
	readonly samples: readonly [from: number, to: number];
	readonly startMs: number;
	readonly endMs: number;
}

/** The host source of a part's input. */
export function sourceOf(part: string, input: string): string {
	return `${part}.${input}`;
}
