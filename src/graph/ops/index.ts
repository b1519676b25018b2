/** @file The table of operators: one entry each, checked by the compiler for gaps. */
import type { OpDef } from '../op.ts';
import { activationOps } from './activation.ts';
import { binaryOps } from './binary.ts';
import { compareOps } from './compare.ts';
import { convOps } from './conv.ts';
import { indexOps } from './indexing.ts';
import type { OpKind } from './kinds.ts';
import { loweredOps } from './lowered.ts';
import { blockedOps } from './nchwc.ts';
import { normOps } from './norm.ts';
import { poolOps } from './pool.ts';
import { productOps } from './product.ts';
import { reduceOps } from './reduce.ts';
import { shapeOps } from './shape.ts';
import { softmaxOps } from './softmax.ts';
import { unaryOps } from './unary.ts';

export type { OpKind } from './kinds.ts';

export const ops: { readonly [K in OpKind]: OpDef } = {
	...binaryOps,
	...compareOps,
	...unaryOps,
	...activationOps,
	...reduceOps,
	...softmaxOps,
	...productOps,
	...convOps,
	...poolOps,
	...normOps,
	...shapeOps,
	...indexOps,
	...loweredOps,
	...blockedOps,
};

/** True when `name` is an operator of the table. */
export function isOpKind(name: string): name is OpKind {
	return Object.hasOwn(ops, name);
}
