/**
 * @file Elementwise graphs as one loop of WebAssembly: each array is read and written once, four elements at a time. ONNX Runtime makes a pass over memory
 * for every operator: AdamW over 18M parameters takes 48 ms that way and 14 this way, on a core whose memory allows no less.
 */
import type { OpKind } from '../../../graph/ops/kinds.ts';
import { type Graph, type ValueName, valueNamed } from '../../../graph/types.ts';
import {
	encodeModule,
	f32Const,
	i32Const,
	load128,
	localGet,
	localSet,
	localTee,
	plain,
	repeat,
	simd,
	store128,
	type,
	type vector,
} from './module.ts';

const instructions: Partial<Record<OpKind, keyof typeof vector>> = {
	Add: 'f32x4.add',
	Sub: 'f32x4.sub',
	Mul: 'f32x4.mul',
	Div: 'f32x4.div',
	Min: 'f32x4.min',
	Max: 'f32x4.max',
	Sqrt: 'f32x4.sqrt',
	Neg: 'f32x4.neg',
	Abs: 'f32x4.abs',
};

/** Bytes of a vector. */
const width = 16;

/**
 * The module of a graph on float32 arrays of one length and numbers (values of one element), or undefined when the graph has another operator, type or shape.
 * Its function takes the arrays' length in bytes (a positive multiple of 16), the addresses of the input arrays, the addresses of the output arrays, and the
 * numbers, each in the order of the graph. An output may lie on an input.
 */
export function compileElementwise(graph: Graph): Uint8Array<ArrayBuffer> | undefined {
	const isNumber = (name: ValueName) => valueNamed(graph, name).shape.every((d) => d === 1);
	const arrays = graph.inputs.filter((name) => !isNumber(name));
	const numbers = graph.inputs.filter(isNumber);
	const length = arrays[0] && valueNamed(graph, arrays[0]).shape.join();
	const fits = (name: ValueName) => isNumber(name) || valueNamed(graph, name).shape.join() === length;
	const known = graph.nodes.every(({ op, inputs, outputs }) => instructions[op] && ![...inputs, ...outputs].includes('' as ValueName));
	const sound =
		[...graph.values.values()].every((v) => v.dtype === 'float32' && fits(v.name)) && [...graph.constants.keys()].every(isNumber);
	if (!length || !known || !sound || graph.outputs.some(isNumber)) return undefined;

	const bytes = 0;
	const inputAddress = (i: number) => 1 + i;
	const outputAddress = (i: number) => 1 + arrays.length + i;
	const number = (i: number) => 1 + arrays.length + graph.outputs.length + i;
	const offset = number(numbers.length);
	let next = offset + 1;
	const locals = new Map<ValueName, number>();
	/** Puts what is on the stack into the local of a value. */
	const define = (name: ValueName) => {
		locals.set(name, next);
		return localSet(next++);
	};
	const at = (address: number) => [...localGet(address), ...localGet(offset), plain['i32.add']];
	const apply = ({ op, inputs, outputs }: Graph['nodes'][number]) => [
		...inputs.flatMap((name) => localGet(locals.get(name as ValueName)!)),
		...simd(instructions[op]!),
		...define(outputs[0]!),
	];
	// What depends on numbers alone is computed before the loop.
	const isBefore = new Set(graph.nodes.filter((n) => isNumber(n.outputs[0]!)));
	const before = [
		...numbers.flatMap((name, i) => [...localGet(number(i)), ...simd('f32x4.splat'), ...define(name)]),
		...[...graph.constants].flatMap(([name, t]) => [...f32Const(Number(t.data[0])), ...simd('f32x4.splat'), ...define(name)]),
		...graph.nodes.filter((n) => isBefore.has(n)).flatMap(apply),
	];
	const loop = [
		...arrays.flatMap((name, i) => [...at(inputAddress(i)), ...load128, ...define(name)]),
		...graph.nodes.filter((n) => !isBefore.has(n)).flatMap(apply),
		...graph.outputs.flatMap((name, i) => [...at(outputAddress(i)), ...localGet(locals.get(name)!), ...store128]),
		...[...localGet(offset), ...i32Const(width), plain['i32.add'], ...localTee(offset), ...localGet(bytes), plain['i32.lt_u']],
	];
	const addresses = 1 + arrays.length + graph.outputs.length;
	return encodeModule({
		parameters: [...new Array<number>(addresses).fill(type.i32), ...numbers.map(() => type.f32)],
		locals: [
			{ count: 1, type: type.i32 },
			{ count: next - offset - 1, type: type.v128 },
		],
		code: [...before, ...repeat(loop)],
	});
}
