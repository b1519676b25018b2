import type { OpDef } from '../op.ts';
import type { ShapeOp } from './kinds.ts';
import { sameAsInput } from './shared.ts';

const pending: OpDef = { inputs: [0, 9], outputs: [1, 9], attributes: {}, cost: 'cheap', infer: sameAsInput, vjp: 'none', evaluate: (ctx) => [ctx.input(0)] };

export const shapeOps: Record<ShapeOp, OpDef> = { Reshape: pending, Transpose: pending, Concat: pending, Split: pending, Slice: pending, Expand: pending, Squeeze: pending, Unsqueeze: pending, Flatten: pending, Pad: pending, Tile: pending, DepthToSpace: pending, SpaceToDepth: pending };
