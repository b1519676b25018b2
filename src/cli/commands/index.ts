/** @file The commands, in the order help lists them. Adding one is one file and one line here. */
import type { Command } from '../command.ts';
import { compare } from './compare.ts';
import { doctor } from './doctor.ts';
import { inspect } from './inspect.ts';
import { plan } from './plan.ts';
import { profile } from './profile.ts';
import { sample } from './sample.ts';
import { simulate } from './simulate.ts';
import { train } from './train.ts';

export const commands: readonly Command[] = [train, sample, profile, plan, simulate, compare, inspect, doctor];
