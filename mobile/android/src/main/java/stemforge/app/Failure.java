package stemforge.app;

import android.content.Context;
import java.io.IOException;

/** What went wrong and what to do, in words for the person who holds the phone. */
final class Failure extends IOException {
  private static final long serialVersionUID = 1L;

  /**
   * @param text a string resource
   * @param values what it names
   */
  Failure(Context context, int text, Object... values) {
    super(context.getString(text, values));
  }
}
