/** @file A plan's division for DeepSpeed's pipeline engine. */
import type { Profile } from '../profile/types.ts';
import type { Plan } from '../types.ts';
import { deepSpeedCaveats, dividedChain } from './divided.ts';

/**
 * Python: the batch keys of a DeepSpeed config (`train_batch_size`, `train_micro_batch_size_per_gpu`, `gradient_accumulation_steps`, docs/config-json) and a
 * function that makes the `PipelineModule`. DeepSpeed has no key for bounds of stages: `partition_method` is `uniform`, `parameters` or `type:regex`
 * (deepspeed/runtime/pipe/module.py), so the layers of each stage become one layer, of which `uniform` gives every stage one;
 * `activation_checkpoint_interval = 1` then keeps a stage's inputs alone, as the plan's recomputation does. Throws what `dividedChain` throws.
 */
export function deepSpeedConfig(plan: Plan, profile?: Profile): string {
	const { parts, microBatch, stages } = dividedChain(plan, 'DeepSpeed', profile);
	return [
		`# ${plan.batch} samples a step on ${plan.devices} GPUs; layers are counted as in the profile`,
		...stages.map((line) => `# ${line}`),
		...deepSpeedCaveats(plan).map((line) => `# ${line}`),
		'import torch',
		'from deepspeed.pipe import PipelineModule',
		'',
		'ds_config = {',
		`    "train_batch_size": ${plan.batch},`,
		`    "train_micro_batch_size_per_gpu": ${microBatch},`,
		`    "gradient_accumulation_steps": ${plan.microBatches},`,
		'}',
		`parts = [${parts.join(', ')}]`,
		'',
		'',
		'def planned_module(layers, **options):',
		`    """The modules of the chain, one per layer of the profile, as ${stages.length} pipeline stage${stages.length === 1 ? '' : 's'}."""`,
		'    assert len(layers) == parts[-1], f"the plan divides {parts[-1]} layers, these are {len(layers)}"',
		'    stages = [torch.nn.Sequential(*layers[a:b]) for a, b in zip(parts, parts[1:])]',
		`    return PipelineModule(stages, num_stages=${stages.length}, partition_method="uniform", activation_checkpoint_interval=${plan.recompute ? 1 : 0}, **options)`,
		'',
	].join('\n');
}
