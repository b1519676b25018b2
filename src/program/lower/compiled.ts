/** @file What lowering gives: a program with its graphs and the places of its parameters. */
import type { Graph } from '../../graph/types.ts';
import type { BankLayout } from '../layout.ts';
import type { GraphId, Program } from '../types.ts';

/** A program with its graphs and the places of its parameters. */
export interface Compiled {
	readonly program: Program;
	readonly graphs: ReadonlyMap<GraphId, Graph>;
	/** One per stage that is trained, backbone by backbone. */
	readonly banks: readonly BankLayout[];
}
