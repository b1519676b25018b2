import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { type Shape, sizeOf, type Tensor } from '../../src/core/tensor.ts';
import { mergedWeights, readLora, writeLora } from '../../src/io/lora-file.ts';
import { openSafetensors, writeSafetensors } from '../../src/io/safetensors.ts';

const root = mkdtempSync(join(tmpdir(), 'lora-file-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const counting = (name: string, shape: Shape) => ({
	name,
	dtype: 'float32' as const,
	shape,
	data: Float32Array.from({ length: sizeOf(shape) }, (_, i) => (i % 7) - 2),
});
const pair = (path: string, a: Shape, b: Shape) => [counting(`${path}.lora_A.weight`, a), counting(`${path}.lora_B.weight`, b)];

it('writes and reads rank, alpha and matrices', async () => {
	const dir = join(root, 'written');
	const tensors = pair('mid.to_q', [2, 3], [4, 2]);
	await writeLora(dir, 'unet', { rank: 2, alpha: 3, modules: ['mid.to_q'] }, tensors);
	const { modules } = await readLora(dir, 'unet');
	expect([...modules]).toEqual([
		[
			'mid.to_q',
			{
				a: { dtype: 'float32', shape: [2, 3], data: tensors[0]!.data },
				b: { dtype: 'float32', shape: [4, 2], data: tensors[1]!.data },
				scale: 1.5,
			},
		],
	]);
	await expect(readLora(dir, 'transformer')).rejects.toThrow(/no LoRA of this model[\s\S]*transformer\.<module>[\s\S]*unet\.mid/);
	const file = await openSafetensors(join(dir, 'pytorch_lora_weights.safetensors'));
	expect(JSON.parse(file.metadata.lora_adapter_metadata!)).toMatchObject({ 'unet.r': 2, 'unet.lora_alpha': 3 });
	await file.close();
});

it('reads older spellings, and an alpha kept as a tensor or not at all', async () => {
	const file = join(root, 'old.safetensors');
	const old = [counting('unet.a.lora.down.weight', [2, 3]), counting('unet.a.lora.up.weight', [3, 2])];
	const alpha = { name: 'unet.b.alpha', dtype: 'float32' as const, shape: [], data: Float32Array.of(8) };
	await writeSafetensors(file, [...old, ...pair('unet.b', [2, 3], [3, 2]), alpha]);
	const { modules } = await readLora(file, 'unet');
	expect([modules.get('a')!.scale, modules.get('b')!.scale]).toEqual([1, 4]);
	await writeSafetensors(file, old.slice(0, 1));
	await expect(readLora(file, 'unet')).rejects.toThrow(/unet\.a: [\s\S]*\[2, 3\] and nothing/);
});

it('adds scale * B A to matrices and convolutions, and refuses what does not fit', async () => {
	const base = join(root, 'base.safetensors');
	await writeSafetensors(base, [counting('lin.weight', [4, 3]), counting('conv.weight', [4, 2, 3, 3]), counting('lin.bias', [4])]);
	const weights = await openSafetensors(base);
	const dir = join(root, 'both');
	const tensors = [...pair('lin', [2, 3], [4, 2]), ...pair('conv', [2, 2, 3, 3], [4, 2, 1, 1])];
	await writeLora(dir, 'transformer', { rank: 2, alpha: 1, modules: ['lin', 'conv'] }, tensors);
	const merged = mergedWeights(weights, await readLora(dir, 'transformer'), 3);
	for (const name of ['lin', 'conv']) {
		const [w, sum] = [await weights.read(`${name}.weight`), await merged.read(`${name}.weight`)] as Tensor<'float32'>[];
		const [a, b] = tensors.filter((t) => t.name.startsWith(name)).map((t) => t.data) as [Float32Array, Float32Array];
		const inner = a.length / 2;
		expect(sum!.shape).toEqual(w!.shape);
		sum!.data.forEach((value, k) => {
			const [o, i] = [Math.floor(k / inner), k % inner];
			expect(value).toBeCloseTo(w!.data[k]! + 3 * 0.5 * (b[o * 2]! * a[i]! + b[o * 2 + 1]! * a[inner + i]!), 5);
		});
	}
	expect(await merged.read('lin.bias')).toEqual(await weights.read('lin.bias'));
	await writeLora(dir, 'transformer', { rank: 2, alpha: 1, modules: ['lin'] }, pair('lin', [2, 5], [4, 2]));
	const other = await readLora(dir, 'transformer');
	expect(() => mergedWeights(weights, other)).toThrow(/not of this model[\s\S]*\[4, 3\][\s\S]*A \[2, 5\]/);
	await weights.close();
});
