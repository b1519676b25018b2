import { describe, expect, it } from 'vitest';
import { mergeReshapes } from '../../../../src/engine/local/lowering/reshapes.ts';
import { operators, passed } from '../../../helpers/passes.ts';

describe('reshapes in a row', () => {
	it('become one', () => {
		const { after } = passed(mergeReshapes, (g) => [
			g.reshape(g.reshape(g.reshape(g.input('x', 'float32', [2, 6]), [12]), [3, 4]), [6, 2]),
		]);
		expect(operators(after)).toEqual(['Reshape']);
	});

	it('vanish where they end at the shape they began with', () => {
		const { after } = passed(mergeReshapes, (g) => [g.neg(g.reshape(g.reshape(g.input('x', 'float32', [2, 6]), [12]), [2, 6]))]);
		expect(operators(after)).toEqual(['Neg']);
	});
});
