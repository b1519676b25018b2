import { describe, expect, test } from 'vitest';
import { openMnist } from '../../../src/train/data/mnist.ts';
import { packageFolder } from '../../../src/train/data/package-file.ts';

test('10,000 digits, split by digit without overlap', async () => {
	const [train, heldOut, all] = await Promise.all(
		(['train', 'held-out', 'all'] as const).map((split) => openMnist({ type: 'mnist', split })),
	);
	expect([train!.size, heldOut!.size, all!.size]).toEqual([9003, 997, 10_000]);
	expect(all).toMatchObject({ channels: 1, height: 28, width: 28, classes: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'] });
	expect(all!.licence).toMatch(/CC BY-SA 3\.0.*MIT/);
	const names = async (set: typeof all): Promise<string[]> =>
		Promise.all(Array.from({ length: set!.size }, async (_, i) => (await set!.load(i)).name));
	const [a, b, c] = await Promise.all([names(train), names(heldOut), names(all)]);
	expect(new Set(a.concat(b))).toEqual(new Set(c));
	const labels = new Map<number, number>();
	for (let i = 0; i < heldOut!.size; i++) {
		const { label } = await heldOut!.load(i);
		labels.set(label, (labels.get(label) ?? 0) + 1);
	}
	for (let digit = 0; digit < 10; digit++) expect(labels.get(digit)).toBeGreaterThan(80);
});

test('pixels are ink on paper in [-1, 1], and 32 pads with paper', async () => {
	const small = await (await openMnist({ type: 'mnist' })).load(1500);
	expect(small).toMatchObject({ label: 1, caption: 'digit 1' });
	expect(Math.min(...small.image)).toBe(-1);
	expect(Math.max(...small.image)).toBeGreaterThan(0.9);
	expect(small.image.filter((value) => value === -1).length).toBeGreaterThan(400);
	const large = await (await openMnist({ type: 'mnist', size: 32 })).load(1500);
	expect(large.image).toHaveLength(1024);
	for (let y = 0; y < 32; y++) {
		for (let x = 0; x < 32; x++) {
			const inside = y >= 2 && y < 30 && x >= 2 && x < 30;
			expect(large.image[y * 32 + x]).toBe(inside ? small.image[(y - 2) * 28 + x - 2] : -1);
		}
	}
});

describe('errors', () => {
	test('a package that is not installed comes with the command that installs it', () => {
		expect(() => packageFolder('mnist-of-nobody', '1.1.0')).toThrow(
			/mnist-of-nobody: the package.*\n.*npm install mnist-of-nobody@1\.1\.0/,
		);
	});
	test('wrong options', async () => {
		await expect(openMnist({ type: 'mnist', size: 30 as 28 })).rejects.toThrow(/data\.size: has a wrong value\n.*28 \| 32.*\n.*30/);
	});
});
