/** @file Learning rate and moving-average decay as functions of the step. */
import type { TrainConfig } from './config.ts';

/** Learning rate of step `step` (from 0): linear warm-up, then constant or half a cosine down to `min_lr_ratio`. */
export function learningRate({ optimizer: o, train }: Pick<TrainConfig, 'optimizer' | 'train'>, step: number): number {
	if (step < o.warmup_steps) return (o.lr * (step + 1)) / o.warmup_steps;
	if (o.lr_scheduler === 'constant') return o.lr;
	const progress = Math.min(1, (step - o.warmup_steps) / Math.max(1, train.max_steps - o.warmup_steps));
	return o.lr * (o.min_lr_ratio + (1 - o.min_lr_ratio) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** Decay of the moving average after `step` updates: (1 + n) / (10 + n) until it reaches `decay`, as diffusers' EMAModel. */
export function emaDecay(decay: number, step: number): number {
	return step <= 0 ? 0 : Math.min(decay, (1 + step) / (10 + step));
}
