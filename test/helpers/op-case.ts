/** @file The form of a small case of one operator: what it is built of, for checks of its value and gradient. */
import type { GraphBuilder } from '../../src/graph/builder.ts';
import type { OpKind } from '../../src/graph/ops/kinds.ts';
import type { Value } from '../../src/graph/types.ts';
import type { GradcheckOptions, InputSpec } from './gradcheck.ts';

export interface OpCase {
	readonly op: OpKind;
	/** What this case covers beside others of the operator, e.g. `keepdims 0`. */
	readonly name: string;
	/** Inputs without a dtype take the float type of the check: float64 for gradients, float32 on an engine. */
	readonly inputs: readonly InputSpec[];
	build(g: GraphBuilder, ...inputs: Value[]): Value | readonly Value[];
	/** False where the gradient is not to be compared with differences; else options for the comparison. */
	readonly gradient?: false | GradcheckOptions;
}
