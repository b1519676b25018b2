import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { parseSchedule } from '../../../src/plan/schedules/text.ts';
import { planFormat, planFormats } from '../../../src/plan/trainers/index.ts';
import type { Plan } from '../../../src/plan/types.ts';
import { sampleResult } from '../../helpers/plans.ts';
import { sampleBackbone, sampleProfile } from '../../helpers/profiles.ts';

const { plan } = sampleResult({ stages: 3, microBatches: 4, replicas: 2, pipelines: 2, frozen: [] });
const profile = sampleProfile({ backbones: [sampleBackbone(12)] });

describe('a plan for other trainers', () => {
	it('torch: one row per rank, read back as the schedule it was', () => {
		const text = planFormat('torch').write(plan);
		expect(text.endsWith('\n')).toBe(true);
		expect(parseSchedule(text)).toEqual(parseSchedule(`${plan.rows.join('\n')}\n`));
		expect(text.split('\n')[2]).toBe('2F0,2B0,2F1,2B1,2F2,2B2,2F3,2B3');
	});

	it('diffusion-pipe: keys of its config, stages named in comments', () => {
		const text = planFormat('diffusion-pipe').write(plan, profile);
		// 192 samples over four copies in four micro-batches.
		expect(parse(text)).toEqual({
			pipeline_stages: 3,
			micro_batch_size_per_gpu: plan.batch / 16,
			gradient_accumulation_steps: 4,
			partition_method: 'manual',
			partition_split: [4, 8],
			activation_checkpointing: false,
		});
		expect(text).toContain('# stage 1, layers 4 to 7: block.4 ... block.7\n');
		expect(text).toContain('plan with --layout copies');
	});

	it('diffusion-pipe: a single stage needs no split', () => {
		const single = sampleResult({ stages: 1, microBatches: 2 }).plan;
		expect(parse(planFormat('diffusion-pipe').write({ ...single, recompute: true }))).toEqual({
			pipeline_stages: 1,
			micro_batch_size_per_gpu: single.batch / 2,
			gradient_accumulation_steps: 2,
			activation_checkpointing: true,
		});
	});

	it('deepspeed: a batch that its own rule accepts, and the bounds of all stages', () => {
		const text = planFormat('deepspeed').write({ ...plan, recompute: true }, profile);
		const numberOf = (key: string) => Number(new RegExp(`"${key}": (\\d+)`).exec(text)![1]);
		expect(numberOf('train_batch_size')).toBe(
			numberOf('train_micro_batch_size_per_gpu') * numberOf('gradient_accumulation_steps') * (plan.devices / 3),
		);
		expect(text).toContain('parts = [0, 4, 8, 12]\n');
		expect(text).toContain('num_stages=3, partition_method="uniform", activation_checkpoint_interval=1');
	});

	it('says what such a trainer will not follow', () => {
		const text = planFormat('diffusion-pipe').write({ ...plan, schedule: 'gpipe', layout: 'copies', frozenMs: 3 });
		expect(text).toContain("# The plan's schedule is gpipe (usual warm-up); DeepSpeed runs 1f1b");
		expect(text).toContain('# Frozen components run where the trainer runs them');
		expect(text).not.toContain('--layout copies');
	});

	it('names with line breaks cannot leave their comment', () => {
		const layers = profile.backbones[0]!.layers.map((layer, i) => (i === 0 ? { ...layer, name: 'a\nevil = 1' } : layer));
		const text = planFormat('diffusion-pipe').write(plan, { ...profile, backbones: [{ ...profile.backbones[0]!, layers }] });
		expect(parse(text)).not.toHaveProperty('evil');
	});

	const [first, second, third] = plan.stages;
	it.each<[string, Partial<Plan>, string]>([
		['two backbones', { stages: [first!, second!, { ...third!, backbone: 'upscaler' }] }, 'one chain'],
		['stages that share ranks', { ranks: 2, stages: [first!, second!, { ...third!, rank: 0 }] }, 'one stage per rank'],
		['unequal replicas', { stages: [first!, second!, { ...third!, replicas: 4 }] }, 'as many devices'],
		['parts of a sample', { batch: plan.batch / 16 / 2 }, 'whole samples'],
	])('refuses %s by name', (_, change, words) => {
		for (const name of ['diffusion-pipe', 'deepspeed']) expect(() => planFormat(name).write({ ...plan, ...change })).toThrow(words);
		if (words === 'one chain') expect(() => planFormat('torch').write({ ...plan, ...change })).toThrow('2 chains');
	});

	it('of a name that is not known', () => {
		expect(Object.keys(planFormats)).toEqual(['torch', 'diffusion-pipe', 'deepspeed']);
		expect(() => planFormat('deep-speed', '--for')).toThrow(/--for: there is no such trainer[\s\S]*did you mean deepspeed\?/);
	});
});
