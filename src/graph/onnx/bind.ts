/** @file Gives symbolic dimensions of graph inputs their sizes. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import type { Shape } from '../../core/tensor.ts';
import type { ValueInfo } from './schema.ts';

/** Dimensions of a graph input with symbols replaced by `dims`; an unnamed one is `<input>[<axis>]`. Throws an input error at a symbol without size. */
export function boundShape({ name, dims: declared }: ValueInfo, dims: Readonly<Record<string, number>>, place: string): Shape {
	const at = `${place}, input ${name}`;
	if (!declared) throw new DiffusionPipeError('input', 'the input has no shape', { place: at, hint: 'export the model with input shapes' });
	return declared.map((d, axis) => {
		const symbol = d === '' ? `${name}[${axis}]` : d;
		const size = typeof symbol === 'number' ? symbol : Object.hasOwn(dims, symbol) ? dims[symbol] : undefined;
		if (size === undefined) {
			const near = nearestName(String(symbol), Object.keys(dims));
			throw new DiffusionPipeError('input', `dimension ${symbol} (axis ${axis}) has no size`, {
				place: at,
				expected: `a number for ${symbol} in dims`,
				found: near === undefined ? `dims for ${Object.keys(dims).join(', ') || 'nothing'}` : `${near}, which is another name`,
				hint: `give dims: { ${JSON.stringify(symbol)}: 1 }`,
			});
		}
		if (!Number.isSafeInteger(size) || size < 0) {
			throw new DiffusionPipeError('input', `dimension ${symbol} (axis ${axis}) is impossible`, {
				place: at,
				expected: 'a whole number from 0',
				found: `${size}`,
			});
		}
		return size;
	});
}
