/** @file Convolutions over blocks of channels: ONNX Runtime runs them a tenth faster than others, but changes only those with constant weights to them. */
import { sizeOf } from '../../../core/tensor.ts';
import type { Pass } from '../../../graph/passes/index.ts';
import { type Rewriting, rewrite } from '../../../graph/passes/rewrite.ts';
import type { Node, Value, ValueName } from '../../../graph/types.ts';
import { permOf } from './transposes.ts';

/**
 * Places of the window, over the batch, from which a faster product is worth bringing the weight to blocks, and what they are where that takes the place of
 * turning its kernels round.
 */
const leastPlaces = { plain: 1024, flipped: 256 };

/** Conv to the same over blocks of `block` channels, where both numbers of channels are whole blocks and the kernel has more than one tap. */
export function blockedConvolutions(block: number): Pass {
	return (graph) =>
		rewrite(graph, (node, r) => {
			if (node.op !== 'Conv') return undefined;
			const [x, w, bias] = node.inputs.map((name) => (name === '' ? undefined : r.value(name))) as [Value, Value, Value | undefined];
			const [out, inputs, ...kernel] = w.shape as [number, number, ...number[]];
			const y = r.value(node.outputs[0]!);
			const { group = 1 } = node.attributes as { group?: number };
			if (x.dtype !== 'float32' || group !== 1 || kernel.length !== 2 || sizeOf(kernel) === 1) return undefined;
			if (inputs % block !== 0 || out % block !== 0) return undefined;
			const turned = unturned(r, w);
			const places = y.shape[0]! * sizeOf(y.shape.slice(2));
			if (places < (turned ? leastPlaces.flipped : leastPlaces.plain)) return undefined;
			const { g } = r;
			const weight = turned ? blocksOfTurned(r, turned, block) : blocksOf(r, w, block);
			const blocks = g.one('NchwcReorderInput', [x], { block });
			const made = g.one('NchwcConv', bias ? [blocks, weight, bias] : [blocks, weight], { ...windowOf(node, kernel), block });
			return [g.one('NchwcReorderOutput', [made], { channels: out, block })];
		});
}

/** Attributes spelled out: the operator has no defaults for them. */
const windowOf = ({ attributes }: Node, kernel: readonly number[]) => ({
	strides: [1, 1],
	dilations: [1, 1],
	pads: [0, 0, 0, 0],
	...attributes,
	group: 1,
	kernel_shape: kernel,
});

/** [out, in, ...kernel] to [out / block, in / block, ...kernel, block of in, block of out]: its own reordering makes the innermost axis. */
function blocksOf({ g }: Rewriting, w: Value, block: number): Value {
	const [out, inputs, ...kernel] = w.shape as [number, number, ...number[]];
	const taps = sizeOf(kernel);
	const outInner = g.one('NchwcReorderInput', [g.reshape(w, [out / block, block, inputs, taps])], { block });
	const apart = g.reshape(outInner, [(out * inputs) / (block * block), block, taps, block]);
	return g.reshape(g.transpose(apart, [0, 2, 1, 3]), w.shape);
}

/** The blocks of `w` with inputs and outputs exchanged and kernels turned round. */
function blocksOfTurned({ g }: Rewriting, w: Value, block: number): Value {
	const [out, inputs, ...kernel] = w.shape as [number, number, ...number[]];
	const taps = sizeOf(kernel);
	const inInner = g.one('NchwcReorderInput', [g.reshape(w, [out, inputs, taps, 1])], { block });
	const apart = g.transpose(g.reshape(inInner, [out / block, block, inputs / block, taps, block]), [2, 0, 3, 1, 4]);
	const rows = g.reshape(apart, [(out * inputs) / (block * block), taps, block * block]);
	return g.reshape(g.slice(rows, [-1], [-taps - 1], [1], [-1]), [inputs, out, ...kernel]);
}

/** The weight whose inputs and outputs were exchanged and kernels turned round to make `w`, as the input gradient of a convolution does it. */
function unturned(r: Rewriting, w: Value): Value | undefined {
	const through = (name: ValueName | undefined, op: Node['op']) => {
		const node = name === undefined ? undefined : r.producer(name);
		return node?.op === op ? node : undefined;
	};
	const source = (node: Node | undefined) => node?.inputs[0] as ValueName | undefined;
	const swap = (node: Node | undefined) => (node && permOf(node, 3).join() === '0,2,1' ? node : undefined);
	const second = swap(through(source(through(w.name, 'Reshape')), 'Transpose'));
	const slice = through(source(second), 'Slice');
	const first = swap(through(source(through(source(slice), 'Reshape')), 'Transpose'));
	const view = through(source(first), 'Reshape');
	if (!slice || !first || !view) return undefined;
	const [inputs, out, ...kernel] = w.shape as [number, number, ...number[]];
	const taps = sizeOf(kernel);
	const original = r.value(source(view)!);
	const constants = slice.inputs.slice(1).map((name) => r.g.constantOf(r.value(name as ValueName))?.join());
	const reversed = constants.join(';') === `-1;${-taps - 1};1;-1`;
	const shapes = [r.value(source(first)!).shape, r.value(source(slice)!).shape].map(String);
	const fits = shapes.join(';') === `${[1, out, inputs * taps]};${[inputs, taps, out]}`;
	return reversed && fits && String(original.shape) === String([out, inputs, ...kernel]) ? original : undefined;
}
