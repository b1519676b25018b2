/** @file Damaged files: whatever happens to the bytes, the reader answers with a graph or with an error a person can act on. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../../src/core/errors.ts';
import { readOnnx, writeOnnx } from '../../../src/graph/onnx/index.ts';
import { image, mlp, sample } from './fixtures.ts';
import { encodeModel, initializer, input, node } from './models.ts';

/** An older model in which most nodes are converted or evaluated while it is read. */
const old = encodeModel({
	opset: 11,
	inputs: [input('x', 1, ['batch', 4])],
	nodes: [
		node('Shape', ['x'], ['shape']),
		node('Constant', [], ['zero'], { value: { dims: [], dataType: 7, int64Data: [0] } }),
		node('Gather', ['shape', 'zero'], ['b']),
		node('Unsqueeze', ['b'], ['b1'], { axes: [0] }),
		node('ConstantOfShape', ['b1'], ['ones'], { value: { dims: [1], dataType: 1, floatData: [1] } }),
		node('Pad', ['ones', 'pads'], ['padded']),
		node('Range', ['zero', 'b', 'b'], ['range']),
		node('Split', ['x'], ['left', 'right'], { axis: 1, split: [1, 3] }),
		node('ReduceMax', ['right'], ['most'], { axes: [1] }),
		node('Max', ['left', 'most', 'left'], ['max']),
		node('BatchNormalization', ['x', 'w', 'w', 'w', 'w'], ['norm']),
		node('Dropout', ['norm'], ['same']),
		node('MatMul', ['same', 'square'], ['product']),
		node('Softmax', ['product'], ['y'], { axis: 1 }),
	],
	initializers: [
		initializer('w', sample('float32', [4], 1)),
		initializer('square', sample('float32', [4, 4])),
		initializer('pads', sample('int64', [2])),
	],
	outputs: ['y', 'max', 'padded', 'range'],
});

const files: [string, Uint8Array][] = [
	['mlp', writeOnnx(mlp())],
	['image', writeOnnx(image())],
	['old', old],
];

/** Reads, or gives the error; anything but our own error fails the test. */
function attempt(bytes: Uint8Array): 'read' | 'refused' {
	try {
		readOnnx(bytes, { dims: { batch: 2 } });
		return 'read';
	} catch (error) {
		if (!(error instanceof DiffusionPipeError)) throw error;
		expect(['input', 'graph']).toContain(error.kind);
		return 'refused';
	}
}

describe.each(files)('%s', (_, file) => {
	it('can be read as it is', () => {
		expect(attempt(file)).toBe('read');
	});

	it('cut short anywhere is refused or is whole', () => {
		const results = Array.from(file, (_, length) => attempt(file.subarray(0, length)));
		expect(results[0]).toBe('refused');
		expect(results.filter((r) => r === 'refused').length).toBeGreaterThan(file.length * 0.9);
	});

	it('with any one byte changed gives a graph or our error', () => {
		for (const flip of [0x01, 0x80, 0xff]) {
			for (let i = 0; i < file.length; i++) attempt(file.with(i, file[i]! ^ flip));
		}
	});

	it('with several bytes changed, cut or repeated gives a graph or our error', () => {
		const edit = fc.record({ at: fc.nat(file.length - 1), byte: fc.nat(255), kind: fc.constantFrom('set', 'cut', 'repeat') });
		fc.assert(
			fc.property(fc.array(edit, { minLength: 1, maxLength: 8 }), (edits) => {
				let bytes = [...file];
				for (const { at, byte, kind } of edits) {
					if (kind === 'set') bytes[at] = byte;
					else if (kind === 'cut') bytes = bytes.toSpliced(at, byte);
					else bytes = bytes.toSpliced(at, 0, ...bytes.slice(at, at + byte));
				}
				attempt(Uint8Array.from(bytes));
			}),
			{ numRuns: 500, seed: 1 },
		);
	});
});

it('any bytes at all give our error', () => {
	fc.assert(
		fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
			expect(attempt(bytes)).toBe('refused');
		}),
		{ numRuns: 500, seed: 2 },
	);
});
