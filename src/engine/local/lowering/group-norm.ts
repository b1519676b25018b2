/** @file Group norms by a kernel: ONNX Runtime's CPU provider has none for GroupNormalization and spells it out, a dozen passes over the feature map. */
import { sizeOf, tensor } from '../../../core/tensor.ts';
import type { GraphBuilder } from '../../../graph/builder.ts';
import { rewrite } from '../../../graph/passes/rewrite.ts';
import type { Graph, Value } from '../../../graph/types.ts';
import { sharedConstant } from '../../../nn/shared-constant.ts';

/** GroupNormalization to InstanceNormalization over each group as one channel, then scale and bias per channel. Float32 only. */
export function groupNormByInstances(graph: Graph): Graph {
	return rewrite(graph, (node, { g, value }) => {
		if (node.op !== 'GroupNormalization') return undefined;
		const [x, scale, bias] = node.inputs.map((name) => (name === '' ? undefined : value(name))) as [Value, Value, Value];
		if (x.dtype !== 'float32') return undefined;
		const { num_groups: groups, epsilon = 1e-5 } = node.attributes as { num_groups: number; epsilon?: number };
		const { shape } = x;
		const grouped = g.reshape(x, [shape[0]!, groups, sizeOf(shape) / (shape[0]! * groups)]);
		const normal = g.one('InstanceNormalization', [grouped, filled(g, groups, 1), filled(g, groups, 0)], { epsilon });
		const perChannel = (v: Value) => g.reshape(v, [shape[1]!, ...shape.slice(2).map(() => 1)]);
		return [g.add(g.mul(g.reshape(normal, shape), perChannel(scale)), perChannel(bias))];
	});
}

const filled = (g: GraphBuilder, count: number, value: number): Value =>
	sharedConstant(g, `${count} of ${value}`, () => tensor('float32', [count], new Array<number>(count).fill(value)));
