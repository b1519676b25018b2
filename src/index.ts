export { DiffusionPipeError } from './core/errors.ts';
