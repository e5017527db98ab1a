/* Templates of JSON records in the making: see json_template.h. */
#include "taskmanager/formats/json_template.h"

void json_template_clear(struct json_template *template)
{
    template->is_valid = true;
    template->step_count = template->literal_bytes = 0;
}

void json_template_add(struct json_template *template, const char *literal, const char *value, uint32_t field)
{
    size_t length = (size_t)(value - literal);
    if (template->step_count == JSON_TEMPLATE_STEP_MAX || length > JSON_TEMPLATE_BYTES_MAX - template->literal_bytes)
        template->is_valid = false;
    if (!template->is_valid)
        return;
    struct json_template_step *step = &template->steps[template->step_count++];
    *step = (struct json_template_step){.offset = template->literal_bytes, .length = (uint32_t)length, .field = field};
    memcpy(template->literals + template->literal_bytes, literal, length);
    template->literal_bytes += (uint32_t)length;
    memcpy(step->first, literal, length < sizeof step->first ? length : sizeof step->first);
    memset(step->mask, 0xff, length < sizeof step->mask ? length : sizeof step->mask);
}
