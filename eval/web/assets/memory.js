"use strict";

// Gives an array's memory back now; the collector would come too late for a phone.
function free(array) {
  array.buffer.transfer?.(0);
}
