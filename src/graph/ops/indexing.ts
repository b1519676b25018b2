import type { OpDef } from '../op.ts';
import type { IndexOp } from './kinds.ts';
import { sameAsInput } from './shared.ts';

const pending: OpDef = { inputs: [0, 9], outputs: [1, 9], attributes: {}, cost: 'cheap', infer: sameAsInput, vjp: 'none', evaluate: (ctx) => [ctx.input(0)] };

export const indexOps: Record<IndexOp, OpDef> = { Gather: pending, GatherElements: pending, ScatterElements: pending, ScatterND: pending, OneHot: pending, Trilu: pending, Shape: pending, ConstantOfShape: pending, Range: pending };
