/** @file Joining the states of several text encoders. All are [texts, tokens, width], or [texts, width]. */
import { DiffusionPipeError } from '../core/errors.ts';
import { sizeOf, type Tensor, zeros } from '../core/tensor.ts';

/** Side by side along the last axis; the axes before it must agree. */
export function concatLast(parts: readonly Tensor[]): Tensor<'float32'> {
	const outer = parts[0]!.shape.slice(0, -1);
	const widths = parts.map((t) => t.shape.at(-1)!);
	const odd = parts.find((t) => t.shape.slice(0, -1).join() !== outer.join());
	if (odd) {
		throw new DiffusionPipeError('config', 'the text encoders give states of different lengths', {
			place: 'text encoders',
			expected: `[${outer.join(', ')}, width]`,
			found: `[${odd.shape.join(', ')}]`,
			hint: 'the tokenizers must have one model_max_length',
		});
	}
	const width = widths.reduce((a, b) => a + b, 0);
	const out = zeros('float32', [...outer, width]);
	let at = 0;
	parts.forEach((t, p) => {
		const own = widths[p]!;
		for (let row = 0; row < sizeOf(outer); row++) {
			out.data.set((t.data as Float32Array).subarray(row * own, (row + 1) * own), row * width + at);
		}
		at += own;
	});
	return out;
}

/** `t` with zeros after it along the last axis, up to `width`. */
export function paddedTo(t: Tensor, width: number): Tensor<'float32'> {
	const missing = width - t.shape.at(-1)!;
	if (missing < 0) {
		throw new DiffusionPipeError('config', 'the text states are wider than the model takes', {
			place: 'text encoders',
			expected: `at most ${width} (joint_attention_dim)`,
			found: `${t.shape.at(-1)}`,
		});
	}
	return concatLast([t, zeros('float32', [...t.shape.slice(0, -1), missing])]);
}

/** Tokens of `a` and then those of `b`, for [texts, tokens, width] of one width. */
export function concatTokens(a: Tensor, b: Tensor): Tensor<'float32'> {
	const [texts, first, width] = a.shape as [number, number, number];
	const second = b.shape[1]!;
	if (b.shape[2] !== width) {
		throw new DiffusionPipeError('config', 'the text encoders give states of different widths', {
			place: 'text encoders',
			expected: `${width}`,
			found: `${b.shape[2]}`,
		});
	}
	const out = zeros('float32', [texts, first + second, width]);
	for (let t = 0; t < texts; t++) {
		const at = t * (first + second) * width;
		out.data.set((a.data as Float32Array).subarray(t * first * width, (t + 1) * first * width), at);
		out.data.set((b.data as Float32Array).subarray(t * second * width, (t + 1) * second * width), at + first * width);
	}
	return out;
}
