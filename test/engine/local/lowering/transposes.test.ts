import { describe, expect, it } from 'vitest';
import { mergeTransposes, transposeSmallOperand } from '../../../../src/engine/local/lowering/transposes.ts';
import { operators, passed } from '../../../helpers/passes.ts';

const swap = [0, 2, 1];

describe('transposes in a row', () => {
	it('become one', () => {
		const { after } = passed(mergeTransposes, (g) => {
			const x = g.input('x', 'float32', [2, 3, 4, 5]);
			return [g.transpose(g.transpose(g.transpose(x, [0, 2, 1, 3]), [0, 1, 3, 2]), [3, 0, 1, 2])];
		});
		expect(operators(after)).toEqual(['Transpose']);
	});

	it('vanish where they undo each other, and an output keeps its name', () => {
		const { after } = passed(mergeTransposes, (g) => {
			const x = g.input('x', 'float32', [2, 3]);
			const back = g.transpose(g.transpose(x, [1, 0]), [1, 0]);
			return [back, g.neg(back)];
		});
		expect(operators(after)).toEqual(['Neg', 'Identity']);
	});

	it('stay where something else reads the first', () => {
		const { after } = passed(mergeTransposes, (g) => {
			const y = g.transpose(g.input('x', 'float32', [2, 3, 4]), [1, 0, 2]);
			return [g.transpose(y, [2, 1, 0]), g.neg(y)];
		});
		expect(operators(after).sort()).toEqual(['Neg', 'Transpose', 'Transpose']);
	});
});

describe('products by a large transposed operand', () => {
	it('transpose the small operand and the result instead', () => {
		const { after } = passed(transposeSmallOperand, (g) => {
			const p = g.input('p', 'float32', [2, 8, 8]);
			return [g.matMul(g.transpose(p, swap), g.input('x', 'float32', [2, 8, 3]))];
		});
		expect(operators(after)).toEqual(['Transpose', 'MatMul', 'Transpose']);
		expect(after.nodes[1]!.inputs[1]).toBe('p');
	});

	it('take a small operand that is transposed already as it was before', () => {
		const { after } = passed(transposeSmallOperand, (g) => {
			const x = g.input('x', 'float32', [2, 3, 8]);
			return [g.matMul(g.transpose(g.input('p', 'float32', [2, 8, 8]), swap), g.transpose(x, swap))];
		});
		expect(operators(after)).toEqual(['MatMul', 'Transpose']);
	});

	it('stay where the transposed operand is no larger, is a matrix, is transposed otherwise, or has rows that alias', () => {
		const cases: Parameters<typeof passed>[1][] = [
			(g) => [g.matMul(g.transpose(g.input('p', 'float32', [2, 3, 8]), swap), g.input('x', 'float32', [2, 3, 8]))],
			(g) => [g.matMul(g.transpose(g.input('p', 'float32', [8, 8]), [1, 0]), g.input('x', 'float32', [8, 2]))],
			(g) => [g.matMul(g.transpose(g.input('p', 'float32', [8, 2, 8]), [1, 0, 2]), g.input('x', 'float32', [2, 8, 1]))],
			(g) => [g.matMul(g.transpose(g.input('p', 'float32', [2, 8, 1024]), swap), g.input('x', 'float32', [2, 8, 2]))],
		];
		for (const build of cases) {
			const { before, after } = passed(transposeSmallOperand, build);
			expect(operators(after)).toEqual(operators(before));
		}
	});
});
