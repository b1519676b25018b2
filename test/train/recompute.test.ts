import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { verifyProgram } from '../../src/program/verify.ts';
import { readSessionConfig } from '../../src/train/config.ts';
import { planTraining } from '../../src/train/plan.ts';
import { firstThatFits, recomputeOf } from '../../src/train/recompute.ts';
import { mixedChain } from '../engine/chains.ts';

const configOf = (parallel: Readonly<Record<string, unknown>>) =>
	readSessionConfig({ train: { max_steps: 1, batch_size: 1 << 16, gradient_accumulation_steps: 2 }, parallel });

const laid = async (parallel: Readonly<Record<string, unknown>>) => {
	const plan = await planTraining(configOf(parallel), mixedChain, 2);
	return { recompute: plan.recompute, peak: Math.max(...verifyProgram(plan.compiled.program).devices.map((d) => d.peakBytes)) };
};

describe('activation_checkpointing = "auto"', () => {
	it('computes again as little as fits in memory', async () => {
		const [views, full] = [await laid({ activation_checkpointing: 'views' }), await laid({ activation_checkpointing: 'full' })];
		expect(full.peak).toBeLessThan(views.peak);
		const auto = (memory_bytes: number) => laid({ activation_checkpointing: 'auto', memory_bytes });
		expect(await auto(0)).toEqual(views);
		expect(await auto(views.peak)).toEqual(views);
		const tight = await auto(views.peak - 1);
		expect(tight.recompute).not.toBe('views');
		expect(tight.peak).toBeLessThan(views.peak);
		expect(await auto(full.peak)).toEqual(full);
		await expect(auto(full.peak - 1)).rejects.toThrow('needs more memory than the device has');
		await expect(auto(full.peak - 1)).rejects.toThrow(/try: more train.gradient_accumulation_steps, .* or a larger parallel.memory_bytes$/);
		const asked = laid({ activation_checkpointing: 'views', memory_bytes: views.peak - 1 });
		await expect(asked).rejects.toThrow('try: parallel.activation_checkpointing = "auto", or');
	});

	it('passes on what is no matter of memory', () => {
		const wrong = new DiffusionPipeError('config', 'wrong', { place: 'here' });
		let tries = 0;
		const attempt = () => {
			tries++;
			throw wrong;
		};
		expect(() => firstThatFits(configOf({ activation_checkpointing: 'auto' }), attempt)).toThrow(wrong);
		expect(tries).toBe(1);
		expect(recomputeOf(configOf({ activation_checkpointing: 'auto' }))).toBe('views');
	});
});
