import type { OpDef } from '../op.ts';
import type { PoolOp } from './kinds.ts';
import { sameAsInput } from './shared.ts';

const pending: OpDef = { inputs: [0, 9], outputs: [1, 9], attributes: {}, cost: 'cheap', infer: sameAsInput, vjp: 'none', evaluate: (ctx) => [ctx.input(0)] };

export const poolOps: Record<PoolOp, OpDef> = { AveragePool: pending, GlobalAveragePool: pending, MaxPool: pending, Resize: pending };
