import type { OpDef } from '../op.ts';
import type { LoweredOp } from './kinds.ts';
import { sameAsInput } from './shared.ts';

const pending: OpDef = { inputs: [0, 9], outputs: [1, 9], attributes: {}, cost: 'cheap', infer: sameAsInput, vjp: 'none', evaluate: (ctx) => [ctx.input(0)] };

export const loweredOps: Record<LoweredOp, OpDef> = { FusedMatMul: pending, FastGelu: pending, QuickGelu: pending, BiasGelu: pending, SkipLayerNormalization: pending };
