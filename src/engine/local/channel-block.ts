/** @file How many channels ONNX Runtime keeps together in its blocked layout on this machine: 16 or 8, by the width of its vectors. */
import { createBuilder } from '../../graph/builder.ts';
import { writeOnnx } from '../../graph/onnx/index.ts';
import { addressOf, createSession, type Environment, releaseValue, tensorOver } from './native.ts';

/** The block, asked by reordering 16 numbered channels; undefined where the library has no such kernels, or does something else. */
export function measureChannelBlock(environment: Environment): 8 | 16 | undefined {
	const channels = 16;
	const places = 2;
	const g = createBuilder('channel-block');
	const x = g.input('x', 'float32', [1, channels, 1, places]);
	const graph = g.finish([g.one('NchwcReorderInput', [x], { block: channels })]);
	const memory = [0, 1].map(() => new Float32Array(new SharedArrayBuffer(4 * channels * places)));
	const [from, to] = memory as [Float32Array, Float32Array];
	for (let i = 0; i < from.length; i++) from[i] = i;
	const values = memory.map((array) => tensorOver(environment, addressOf(array), x));
	// Shared memory does not move, unlike small typed arrays.
	const pointers = new BigUint64Array(new SharedArrayBuffer(16));
	pointers.set(values);
	try {
		const session = createSession(environment, graph.name, writeOnnx(graph), graph);
		try {
			session.run(pointers.subarray(0, 1), pointers.subarray(1));
		} finally {
			session.release();
		}
	} catch {
		return undefined;
	} finally {
		for (const value of values) releaseValue(value);
	}
	const expected = (block: number) =>
		from.map((_, i) => {
			const [inner, place] = [i % block, Math.floor(i / block) % places];
			return (Math.floor(i / (block * places)) * block + inner) * places + place;
		});
	return ([16, 8] as const).find((block) => expected(block).every((v, i) => v === to[i]));
}
